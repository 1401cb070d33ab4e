// Products with FP32 arithmetic go to the library's sgemm, FP64 to PlainGemm. Products of a batch
// (heads) are divided among threads, one whole product each, where they come out even: 1.02 to 1.2
// times as fast as dividing each, over GPT-2's attention.
//
// A product of 16-bit operands has the bits of the FP32 product of the same values, rounded once:
// panels keep the operands' transposition, and the steps in k are the same. (Checked on AVX-512;
// elsewhere sgemm's bits may depend on the height of a call.)
#include "runtime/kernels/gemm.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include "runtime/base/gemm_panels.h"
#include "runtime/kernels/cpu/openmp_threads.h"
#include "runtime/kernels/cpu/sgemm.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/panel.h"

namespace memwall::launchers {
namespace {

// A tile of an operand or result, counted in elements of its matrix.
struct Tile {
  int64_t batch, row, column;
  int64_t rows, columns;
};

// FP32 as sgemm takes it: `leading` elements between contiguous runs.
struct Matrix {
  float* data;
  int64_t leading;
};

// An operand or result of the product.
struct Operand {
  Tensor tensor;
  Strides strides;
  Layout layout;
  float* panel;  // nullptr: in place

  int64_t offset(const Tile& t) const {
    return t.batch * strides.batch + t.row * strides.row + t.column * strides.column;
  }
  bool by_rows() const { return layout.transpose == 'N'; }
  // Of the panel: its runs and their length.
  int64_t lines(const Tile& t) const { return by_rows() ? t.rows : t.columns; }
  int64_t length(const Tile& t) const { return by_rows() ? t.columns : t.rows; }
  int64_t line() const { return by_rows() ? strides.row : strides.column; }
  int64_t step() const { return by_rows() ? strides.column : strides.row; }

  // Where the product finds or leaves the tile.
  Matrix matrix(const Tile& t) const {
    if (panel == nullptr) return {tensor.as<float>() + offset(t), layout.leading};
    return {panel, length(t)};
  }
  // f(kernel) where there is a panel; a row of the kernel copies one line of it.
  template <class F>
  void with_copy(const Tile& t, const F& f) const {
    if (panel == nullptr) return;
    with_operand_type<float>(tensor.dtype, [&]<class S>(S) {
      f(CopyLines<float, S>{tensor.as<const S>() + offset(t), line(), step(), panel, length(t), 1,
                            length(t)});
    });
  }
  void to_panel(const Tile& t, int threads) const {
    with_copy(t, [&](const auto& copy) { launch(threads, lines(t), length(t), copy); });
  }
  void from_panel(const Tile& t, int threads) const {
    if (panel == nullptr) return;
    with_operand_type<float>(tensor.dtype, [&]<class S>(S) {
      const CopyLines<S, float> kernel{panel,  length(t), 1,        tensor.as<S>() + offset(t),
                                       line(), step(),    length(t)};
      launch(threads, lines(t), length(t), kernel);
    });
  }
};

// Both by one launch: starting threads costs as much as copying a small panel.
void to_panels(const Operand& a, const Tile& left, const Operand& b, const Tile& right,
               int threads) {
  if (a.panel == nullptr || b.panel == nullptr) {
    a.to_panel(left, threads);
    b.to_panel(right, threads);
    return;
  }
  a.with_copy(left, [&](const auto& copy_a) {
    b.with_copy(right, [&](const auto& copy_b) {
      const int64_t lines = a.lines(left), all = lines + b.lines(right);
      launch(threads, all, std::max(a.length(left), b.length(right)),
             [&](auto& team, int64_t line) {
               if (line < lines) {
                 copy_a(team, line);
               } else {
                 copy_b(team, line - lines);
               }
             });
    });
  });
}

struct Product {
  GemmAttributes g;  // limited; the result not transposed
  Operand a, b, c;
  GemmPanels panels;
  bool accumulate;
  int threads;
};

// c = alpha a b (+ c) for one step of k.
void multiply_step(const Product& p, const Tile& tile, int64_t depth, const Matrix& a,
                   const Matrix& b, const Matrix& c, bool add) {
  cpu::sgemm({.transpose_a = p.a.layout.transpose,
              .transpose_b = p.b.layout.transpose,
              .m = tile.rows,
              .n = tile.columns,
              .k = depth,
              .alpha = static_cast<float>(p.g.alpha),
              .a = a.data,
              .lda = a.leading,
              .b = b.data,
              .ldb = b.leading,
              .beta = add ? 1.0f : 0.0f,
              .c = c.data,
              .ldc = c.leading});
}

// A tile of c, of one batch, or summed over all batches from the tile's on. Sums stay in FP32.
void multiply_tile(const Product& p, const Tile& tile) {
  const GemmAttributes& g = p.g;
  const Matrix c = p.c.matrix(tile);
  if (p.accumulate) p.c.to_panel(tile, p.threads);
  const int64_t last = g.c.batch == 0 ? g.batch : tile.batch + 1;
  for (int64_t batch = tile.batch; batch < last; ++batch) {
    for (int64_t k = 0; k < g.k; k += kGemmDepth) {
      const int64_t depth = std::min(kGemmDepth, g.k - k);
      const Tile left{batch, tile.row, k, tile.rows, depth};
      const Tile right{batch, k, tile.column, depth, tile.columns};
      to_panels(p.a, left, p.b, right, p.threads);
      multiply_step(p, tile, depth, p.a.matrix(left), p.b.matrix(right), c,
                    p.accumulate || batch > tile.batch || k > 0);
    }
  }
  p.c.from_panel(tile, p.threads);
}

// One product of the batch, or the sum of all.
void multiply_one(const Product& p, int64_t batch) {
  const GemmAttributes& g = p.g;
  for (int64_t column = 0; column < g.n;) {
    const int64_t columns = tile_extent(g.n - column, p.panels.columns);
    for (int64_t row = 0; row < g.m;) {
      const int64_t rows = tile_extent(g.m - row, p.panels.rows);
      multiply_tile(p, {batch, row, column, rows, columns});
      row += rows;
    }
    column += columns;
  }
}

// How many threads compute whole products of the batch: as many as come out even and have panels of
// their own; 1: they divide each product instead.
int64_t batch_team(const Product& p) {
  const GemmAttributes& g = p.g;
  if (g.c.batch == 0) return 1;
  const bool in_place = p.panels.set_bytes() == 0;
  const int64_t team = in_place ? p.threads : std::min<int64_t>(p.threads, p.panels.sets);
  return g.batch % team == 0 || g.batch >= 4 * team ? team : 1;
}

void multiply_batch(const Product& p, int64_t team) {
  std::exception_ptr failure;
  // All threads, though some may have nothing to do: a smaller team would end the others.
#pragma omp parallel num_threads(p.threads)
  {
    const int64_t thread = omp_get_thread_num();
    Product mine = p;
    mine.threads = 1;
    const int64_t floats = thread * p.panels.set_bytes() / size_of(DType::kF32);
    for (Operand* o : {&mine.a, &mine.b, &mine.c}) {
      if (o->panel != nullptr) o->panel += floats;
    }
    const int64_t end = thread < team ? p.g.batch * (thread + 1) / team : 0;
    for (int64_t batch = p.g.batch * thread / team; batch < end; ++batch) {
      try {
        multiply_one(mine, batch);
      } catch (...) {
#pragma omp critical
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

void multiply(const Product& p) {
  const GemmAttributes& g = p.g;
  const int64_t team = p.threads > 1 ? batch_team(p) : 1;
  if (team > 1) return multiply_batch(p, team);
  // Of a matrix and a vector the library divides even 256 products among two threads.
  const cpu::OpenMpThreads scope(g.m == 1 || g.n == 1 ? 1 : p.threads);
  for (int64_t batch = 0; batch < (g.c.batch == 0 ? 1 : g.batch); ++batch) multiply_one(p, batch);
}

// Rows [first, m) of every batch of c.
template <class T>
void zero_rows(const GemmAttributes& g, int64_t first, T* c) {
  for (int64_t batch = 0; batch < (g.c.batch == 0 ? 1 : g.batch); ++batch) {
    for (int64_t i = first; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) {
        c[batch * g.c.batch + i * g.c.row + j * g.c.column] = T{0};
      }
    }
  }
}

// g: limited; panels: of the whole product.
void gemm_in_panels(const KernelCall& call, const GemmAttributes& g, const Tensor& a,
                    const Tensor& b, const GemmPanels& panels) {
  check(static_cast<int64_t>(call.workspace.size()) >= panels.bytes(),
        "gemm: the workspace is too small");
  std::byte* free = call.workspace.data();
  const auto take = [&](int64_t bytes) {
    float* const panel = bytes > 0 ? reinterpret_cast<float*>(free) : nullptr;
    free += bytes;
    return panel;
  };
  const auto layout = [](const Strides& s, int64_t rows, int64_t columns) {
    return layout_of(s, rows, columns).value_or(Layout{'N', columns});
  };
  Product p{.g = g,
            .a = {a, g.a, layout(g.a, g.m, g.k), take(panels.a_bytes)},
            .b = {b, g.b, layout(g.b, g.k, g.n), take(panels.b_bytes)},
            .c = {call.outputs[0], g.c, {'N', g.c.row}, take(panels.c_bytes)},
            .panels = panels,
            .accumulate = call.accumulate,
            .threads = call.threads};
  // A result of one row or column may be in place by any strides.
  if (p.c.panel == nullptr) p.c.layout = layout(g.c, g.m, g.n);
  multiply(p);
}

void plain_gemm(const KernelCall& call, const GemmAttributes& g, const Tensor& a, const Tensor& b) {
  const PlainGemm<double> kernel{a.as<const double>(), b.as<const double>(),
                                 call.outputs[0].as<double>(), g, call.accumulate};
  launch(call.threads, kernel.tiles(), 2 * kernel.kRows * g.k, kernel);
}

}  // namespace

void gemm(const KernelCall& call) {
  auto whole = std::get<GemmAttributes>(call.attributes);
  GemmAttributes g = limited(whole, call.iteration);
  const Tensor& c = call.outputs[0];
  if (!call.accumulate && g.m < whole.m) {
    with_float_type(c.dtype, [&]<class T>(T) { zero_rows(whole, g.m, c.as<T>()); });
  }
  Tensor a = call.inputs[0], b = call.inputs[1];
  if (has_transposed_result(whole)) {
    whole = transposed(whole);
    g = transposed(g);
    std::swap(a, b);
  }
  if (c.dtype == DType::kF64) return plain_gemm(call, g, a, b);
  gemm_in_panels(call, g, a, b, gemm_panels(whole, a.dtype, b.dtype, c.dtype));
}

}  // namespace memwall::launchers
