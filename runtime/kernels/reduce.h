// Sums over rows and over whole tensors, with an order that is part of the numbers: partials over
// blocks of a fixed size, then the partials in their order.
#pragma once

#include "runtime/base/workspace.h"
#include "runtime/kernels/team.h"

namespace memwall {

inline constexpr int64_t kColumnTile = 128;  // columns of one call: parallelism, not numbers

// A sum over columns is a kernel with `batch`, `rows`, `width`, kWide (columns at once), the type C
// it is computed in, term(batch, row, at), and out(batch), where the sums go. It is run by
// WholeColumns, or by ColumnBlocks and then, for their partials, by SumOfBlocks (fused.h): the same
// sums in the same order.

// The sum over rows [begin, end) at `at`.
template <class Kernel, class At>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline auto sum_of_block(const Kernel& kernel,
                                                                    int64_t batch, int64_t begin,
                                                                    int64_t end, At at) {
  using P = decltype(kernel.term(batch, begin, at));
  P partial = typename Kernel::Arithmetic{0};
  for (int64_t row = begin; row < end; ++row) partial = partial + kernel.term(batch, row, at);
  return partial;
}

// A row of this kernel is a tile of columns of one batch.
template <class Kernel>
struct WholeColumns {
  Kernel kernel;
  int64_t tiles;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t tile) const {
    const int64_t batch = tile / tiles, begin = tile % tiles * kColumnTile;
    const int64_t rows = kernel.rows;
    const auto out = kernel.out(batch);
    team.template each<Kernel::kWide>(
        begin, std::min(kernel.width, begin + kColumnTile), [&](auto at) {
          auto total = sum_of_block(kernel, batch, 0, 0, at);
          for (int64_t block = 0; block < rows; block += kRowBlock) {
            total =
                total + sum_of_block(kernel, batch, block, std::min(rows, block + kRowBlock), at);
          }
          out.store(at, total);
        });
  }
};

// Leaves the sums of each block of rows in partials (batch, blocks, width). A row of this kernel is
// a tile of columns of one block.
template <class Kernel, class Partials>
struct ColumnBlocks {
  Kernel kernel;
  Partials partials;
  int64_t tiles, blocks;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const int64_t begin = row % tiles * kColumnTile, block = row / tiles % blocks;
    const int64_t batch = row / tiles / blocks, first = block * kRowBlock;
    const auto out = partials.from((batch * blocks + block) * kernel.width);
    team.each(begin, std::min(kernel.width, begin + kColumnTile), [&](auto at) {
      out.store(at,
                sum_of_block(kernel, batch, first, std::min(kernel.rows, first + kRowBlock), at));
    });
  }
};

// b (batch, width) = sum over rows of x (batch, rows, width).
template <class Out, class T, class C>
struct ColumnSum {
  using Arithmetic = C;
  using Partials = Output<C>;
  static constexpr int kWide = 8 * kLanes;
  Input<T, C> x;
  Output<Out, C> b;
  int64_t batch, rows, width;

  template <class At>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE auto term(int64_t of, int64_t row, At at) const {
    return x.from((of * rows + row) * width)(at);
  }
  MEMWALL_HOST_DEVICE Output<Out, C> out(int64_t of) const { return b.from(of * width); }
};

// dgamma = sum over rows of dy (x - mean) rstd.
template <class Out, class T, class C, class Views = ValueViews>
struct LayerNormScaleGrad {
  using Arithmetic = C;
  using Partials = OutputOf<Views, C>;
  static constexpr int kWide = 4 * kLanes;
  InputOf<Views, T, C> dy, x;
  InputOf<Views, C> mean, rstd;
  OutputOf<Views, Out, C> dgamma;
  int64_t rows, width;
  static constexpr int64_t batch = 1;

  template <class At>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE auto term(int64_t, int64_t row, At at) const {
    const auto xhat = (x.from(row * width)(at) - mean.scalar(row)) * rstd.scalar(row);
    return dy.from(row * width)(at) * xhat;
  }
  MEMWALL_HOST_DEVICE OutputOf<Views, Out, C> out(int64_t) const { return dgamma; }
};

enum class Term { kValue, kSquare };

// partials[row] = sum over block `row` of x or x^2, in double precision. Blocks start anew with
// each part of `part_count` elements, so that a part alone gives the same bits.
template <class T, Term kTerm>
struct BlockSum {
  Input<T, double> x;
  int64_t part_count;

  MEMWALL_HOST_DEVICE int64_t blocks_of_part() const {
    return (part_count + kSumBlock - 1) / kSumBlock;
  }

  template <class Team>
  MEMWALL_HOST_DEVICE double sum(Team& team, int64_t row) const {
    const int64_t part = row / blocks_of_part(), begin = row % blocks_of_part() * kSumBlock;
    const auto in = x.from(part * part_count + begin);
    const int64_t left = part_count - begin;
    return team.sum(left < kSumBlock ? left : kSumBlock, [&](auto at) {
      const auto v = in(at);
      if constexpr (kTerm == Term::kSquare) {
        return v * v;
      } else {
        return v;
      }
    });
  }
};

// The same, kept: what threads leave for the sum over blocks.
template <class Sum>
struct Partials {
  Sum blocks;
  double* partials;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const double total = blocks.sum(team, row);
    team.lead([&] { partials[row] = total; });
  }
};

// results[part] (+)= the block sums of the part, in their order; from `partials`, or, where that is
// nullptr, computed here. A row of the kernel is a part.
template <class Sum>
struct TotalOfBlocks {
  Sum blocks;
  const double* partials;
  double* results;
  bool accumulate;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t part) const {
    const int64_t count = blocks.blocks_of_part();
    double total = 0.0;
    for (int64_t block = part * count; block < (part + 1) * count; ++block) {
      total += partials != nullptr ? partials[block] : blocks.sum(team, block);
    }
    team.lead([&] { results[part] = accumulate ? results[part] + total : total; });
  }
};

}  // namespace memwall
