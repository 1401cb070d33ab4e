// Sums over rows and over whole tensors, with an order that is part of the numbers: partials over
// blocks of a fixed size, then the partials in their order.
#pragma once

#include "runtime/base/workspace.h"
#include "runtime/kernels/team.h"

namespace memwall {

inline constexpr int64_t kColumnTile = 128;  // columns of one call: parallelism, not numbers

// sum over rows of f(row, at), at in [begin, end), `Wide` columns at once.
template <int Wide, class Team, class F, class Out>
[[gnu::always_inline]] inline void sum_columns(Team& team, int64_t rows, int64_t begin, int64_t end,
                                               const F& f, const Out& out) {
  team.template each<Wide>(begin, end, [&](auto at) {
    using P = decltype(f(int64_t{0}, at));
    using C = typename P::Scalar;
    P total = C{0};
    for (int64_t block = 0; block < rows; block += kRowBlock) {
      P partial = C{0};
      const int64_t block_end = std::min(rows, block + kRowBlock);
      for (int64_t row = block; row < block_end; ++row) partial = partial + f(row, at);
      total = total + partial;
    }
    out.store(at, total);
  });
}

// b (batch, width) = sum over rows of x (batch, rows, width). A row of the kernel is a tile of
// columns of one batch.
template <class Out, class T, class C>
struct ColumnSum {
  Input<T, C> x;
  Output<Out, C> b;
  int64_t rows, width, tiles;

  template <class Team>
  void operator()(Team& team, int64_t tile) const {
    const int64_t batch = tile / tiles, begin = tile % tiles * kColumnTile;
    const auto in = x.from(batch * rows * width);
    sum_columns<8 * kLanes>(
        team, rows, begin, std::min(width, begin + kColumnTile),
        [&](int64_t row, auto at) { return in.from(row * width)(at); }, b.from(batch * width));
  }
};

// dgamma = sum over rows of dy (x - mean) rstd.
template <class Out, class T, class C, class Views = ValueViews>
struct LayerNormScaleGrad {
  InputOf<Views, T, C> dy, x;
  InputOf<Views, C> mean, rstd;
  OutputOf<Views, Out, C> dgamma;
  int64_t rows, width;

  template <class Team>
  void operator()(Team& team, int64_t tile) const {
    const int64_t begin = tile * kColumnTile;
    sum_columns<4 * kLanes>(
        team, rows, begin, std::min(width, begin + kColumnTile),
        [&](int64_t row, auto at) {
          const auto xhat = (x.from(row * width)(at) - mean.scalar(row)) * rstd.scalar(row);
          return dy.from(row * width)(at) * xhat;
        },
        dgamma);
  }
};

enum class Term { kValue, kSquare };

// partials[row] = sum over block `row` of x or x^2, in double precision. Blocks start anew with
// each part of `part_count` elements, so that a part alone gives the same bits.
template <class T, Term kTerm>
struct BlockSum {
  Input<T, double> x;
  int64_t part_count;

  int64_t blocks_of_part() const { return (part_count + kSumBlock - 1) / kSumBlock; }

  template <class Team>
  double sum(Team& team, int64_t row) const {
    const int64_t part = row / blocks_of_part(), begin = row % blocks_of_part() * kSumBlock;
    const auto in = x.from(part * part_count + begin);
    return team.sum(std::min(kSumBlock, part_count - begin), [&](auto at) {
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
  void operator()(Team& team, int64_t row) const {
    const double total = blocks.sum(team, row);
    team.lead([&] { partials[row] = total; });
  }
};

}  // namespace memwall
