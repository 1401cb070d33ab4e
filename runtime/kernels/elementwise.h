// Movement and arithmetic. A row of these kernels is a tile of kTile elements.
#pragma once

#include "runtime/kernels/team.h"

namespace memwall {

inline constexpr int64_t kTile = 4096;  // elements

// f(at) over tile `row` of `count` elements.
template <class Team, class F>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline void each_of_tile(Team& team, int64_t row,
                                                                    int64_t count, const F& f) {
  team.template each<4 * kLanes>(row * kTile, std::min(count, (row + 1) * kTile), f);
}

// Tile `row` of a state that a skipped step keeps.
template <class Team, class In, class Out>
MEMWALL_HOST_DEVICE void keep_state(Team& team, int64_t row, int64_t count, const In& from,
                                    const Out& to) {
  if (to.data == nullptr || to.data == from.data) return;
  each_of_tile(team, row, count, [&](auto at) { to.store(at, from(at)); });
}

// T: dtype of the tensors, C: of arithmetic.
template <class T, class C>
struct Fill {
  Output<T, C> y;
  double value;
  int64_t count;
  const double* factor = nullptr;  // what the value is multiplied with

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const C all = static_cast<C>(factor != nullptr ? value * *factor : value);
    each_of_tile(team, row, count, [&](auto at) { y.store(at, all); });
  }
};

// y = x, converted. C: what the sum is formed in where y is added to.
template <class To, class From, class C>
struct Copy {
  Input<From, C> x;
  Output<To, C> y;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    each_of_tile(team, row, count, [&](auto at) { y.store(at, x(at)); });
  }
};

template <class T, class A, class B, class C>
struct Add {
  Input<A, C> a;
  Input<B, C> b;
  Output<T, C> c;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    each_of_tile(team, row, count, [&](auto at) { c.store(at, a(at) + b(at)); });
  }
};

// y = x + b, x (batch, rows, width), b (batch, width). A row is a tile of a row of x.
template <class T, class C>
struct Bias {
  Input<T, C> x, b;
  Output<T, C> y;
  int64_t rows, width, tiles;  // tiles in a row of x

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t tile) const {
    const int64_t row = tile / tiles;
    const auto from = x.from(row * width);
    const auto to = y.from(row * width);
    const auto shift = b.from(row / rows * width);
    each_of_tile(team, tile % tiles, width, [&](auto at) { to.store(at, from(at) + shift(at)); });
  }
};

}  // namespace memwall
