// Kernels that do what two or three others do, row by row while the row is in the cache. They call
// those, on the same stored values and in the same order of sums, so that the bits are the same.
#pragma once

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/gelu.h"
#include "runtime/kernels/layer_norm.h"
#include "runtime/kernels/reduce.h"

namespace memwall {

// Runs an elementwise kernel of `count` elements.
template <class Team, class Kernel>
MEMWALL_HOST_DEVICE void each_tile(Team& team, const Kernel& kernel, int64_t count) {
  for (int64_t tile = 0; tile * kTile < count; ++tile) kernel(team, tile);
}

// h = x + b, y = gelu(h).
template <class T, class C>
struct BiasGelu {
  Input<T, C> x, b;
  Output<T, C> h, y;
  int64_t width;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const int64_t at = row * width;
    each_tile(team, Add<T, T, T, C>{x.from(at), b, h.from(at), width}, width);
    each_tile(team, Gelu<T, C>{{h.data + at}, y.from(at), width}, width);
  }
};

// sum = a + b, then its layer norm.
template <class T, class C>
struct AddLayerNorm {
  Input<T, C> a, b;
  Output<T, C> sum;
  LayerNorm<T, C> norm;  // of sum

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const int64_t at = row * norm.width;
    each_tile(team, Add<T, T, T, C>{a.from(at), b.from(at), sum.from(at), norm.width}, norm.width);
    norm(team, row);
  }
};

// Sums over the rows of one block, in `sums` (width).
template <class C>
struct BlockColumns {
  C* sums;
  int64_t width;

  template <class Team, class F>  // adds f(at), or starts with it
  MEMWALL_HOST_DEVICE void add(Team& team, bool first, const F& f) const {
    const Input<C> before{sums};
    const Output<C> after{sums};
    team.each(0, width, [&](auto at) {
      using P = Pack<C, decltype(at)::kSize>;
      after.store(at, (first ? P(C{0}) : before(at)) + f(at));
    });
  }
};

// What blocks of kRowBlock rows leave in `partials` (blocks, width), added in the blocks' order as
// sum_columns does. A row of the kernel is a tile of columns.
template <class T, class C>
struct SumOfBlocks {
  const C* partials;
  Output<T, C> out;
  int64_t blocks, block_stride, width;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t tile) const {
    const int64_t begin = tile * kColumnTile;
    team.each(begin, std::min(width, begin + kColumnTile), [&](auto at) {
      Pack<C, decltype(at)::kSize> total = C{0};
      for (int64_t block = 0; block < blocks; ++block) {
        total = total + Input<C>{partials + block * block_stride}(at);
      }
      out.store(at, total);
    });
  }
};

// dx = gelu'(x) dy, and the sums of its columns. A row of the kernel is a block of rows.
template <class T, class C>
struct GeluGradColumns {
  Input<T, C> dy, x;
  Output<T, C> dx;
  C* partials;  // (blocks, width)
  int64_t rows, width;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t block) const {
    const int64_t begin = block * kRowBlock, end = std::min(rows, begin + kRowBlock);
    const BlockColumns<C> columns{partials + block * width, width};
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * width;
      each_tile(team, GeluGrad<T, C>{dy.from(at), x.from(at), dx.from(at), width}, width);
      columns.add(team, row == begin, Input<T, C>{dx.data + at});
    }
  }
};

// The gradients of a layer norm's input, scale and shift. A row of the kernel is a block of rows.
template <class T, class C>
struct LayerNormGrads {
  LayerNormGrad<T, T, C> input;
  C* partials;  // (blocks, 2, width): scale, shift
  int64_t rows;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t block) const {
    const int64_t width = input.width;
    const int64_t begin = block * kRowBlock, end = std::min(rows, begin + kRowBlock);
    const BlockColumns<C> scale{partials + 2 * block * width, width};
    const BlockColumns<C> shift{partials + (2 * block + 1) * width, width};
    for (int64_t row = begin; row < end; ++row) {
      const auto dy = input.dy.from(row * width), x = input.x.from(row * width);
      const auto m = input.mean.scalar(row), r = input.rstd.scalar(row);
      scale.add(team, row == begin, [&](auto at) {
        const auto xhat = (x(at) - m) * r;
        return dy(at) * xhat;
      });
      shift.add(team, row == begin, dy);
      input(team, row);
    }
  }
};

}  // namespace memwall
