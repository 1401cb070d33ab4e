// c = alpha a b (+ c) by loops: for double precision, and for strides no library takes.
#pragma once

#include "runtime/base/op.h"
#include "runtime/kernels/team.h"

namespace memwall {

// The extents of iteration `iteration`: what a causal chunk leaves out is cut off.
inline GemmAttributes limited(GemmAttributes g, int64_t iteration) {
  const int64_t extent = (iteration % g.limit_period + 1) * g.limit_rows;
  switch (g.limit) {
    case GemmLimit::kNone: break;
    case GemmLimit::kM: g.m = std::min(g.m, extent); break;
    case GemmLimit::kN: g.n = std::min(g.n, extent); break;
    case GemmLimit::kK: g.k = std::min(g.k, extent); break;
  }
  return g;
}

// A row of the kernel is a tile of c, of one batch, or of all batches where c sums over them. The
// products of an element are added in the order of batch and k: in fma over kDepth products, then
// those partial sums.
template <class T>
struct PlainGemm {
  static constexpr int64_t kRows = 32, kStep = 4, kColumns = 2 * kLanes, kDepth = 256;
  const T *a, *b;
  T* c;
  GemmAttributes g;  // limited
  bool accumulate;

  bool sums_batch() const { return g.c.batch == 0; }
  int64_t row_tiles() const { return (g.m + kRows - 1) / kRows; }
  int64_t column_tiles() const { return (g.n + kColumns - 1) / kColumns; }
  int64_t tiles() const { return (sums_batch() ? 1 : g.batch) * row_tiles() * column_tiles(); }

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team&, int64_t tile) const {
    const int64_t column = tile % column_tiles() * kColumns;
    const int64_t row = tile / column_tiles() % row_tiles() * kRows;
    const int64_t first = tile / column_tiles() / row_tiles();
    const int64_t last = sums_batch() ? g.batch : first + 1;
    for (int64_t batch = first; batch < last; ++batch) {
      for (int64_t depth = 0; depth < g.k; depth += kDepth) {
        const bool add = accumulate || depth > 0 || batch > first;
        add_products(batch, row, column, depth, add);
      }
    }
  }

 private:
  void add_products(int64_t batch, int64_t row, int64_t column, int64_t depth, bool add) const {
    const int64_t columns = std::min(kColumns, g.n - column), k = std::min(kDepth, g.k - depth);
    T panel[kDepth * kColumns];
    const T* from = b + batch * g.b.batch + depth * g.b.row + column * g.b.column;
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        panel[i * kColumns + j] = j < columns ? from[i * g.b.row + j * g.b.column] : T{0};
      }
    }
    const int64_t end = std::min(g.m, row + kRows);
    for (int64_t i = row; i < end; i += kStep) {
      T sums[kStep * kColumns];
      multiply(a + batch * g.a.batch + depth * g.a.column, i, end - 1, k, panel, sums);
      for (int64_t r = i; r < std::min(end, i + kStep); ++r) {
        T* to = c + batch * g.c.batch + r * g.c.row + column * g.c.column;
        for (int64_t j = 0; j < columns; ++j) {
          T& element = to[j * g.c.column];
          const T product = static_cast<T>(g.alpha) * sums[(r - i) * kColumns + j];
          element = add ? element + product : product;
        }
      }
    }
  }

  // sums (kStep, kColumns) = rows i ... i + kStep - 1 of a (the last row again behind it) * panel.
  void multiply(const T* from, int64_t i, int64_t last_row, int64_t k, const T* panel,
                T* sums) const {
    using P = Pack<T, static_cast<int>(kColumns)>;
    const T* rows[kStep];
    P total[kStep];
    for (int64_t r = 0; r < kStep; ++r) {
      rows[r] = from + std::min(i + r, last_row) * g.a.row;
      total[r] = T{0};
    }
    for (int64_t kk = 0; kk < k; ++kk) {
      const P right = load<T, P::kSize>(panel + kk * kColumns);
      for (int64_t r = 0; r < kStep; ++r) {
        total[r] = fma(P(rows[r][kk * g.a.column]), right, total[r]);
      }
    }
    for (int64_t r = 0; r < kStep; ++r) store(sums + r * kColumns, total[r]);
  }
};

}  // namespace memwall
