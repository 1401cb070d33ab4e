// GELU by its tanh approximation (Hendrycks and Gimpel 2016), written x s(2u), which is the same
// function: (1 + tanh(u)) / 2 = s(2u), s logistic, u = sqrt(2/pi) (x + 0.044715 x^3).
#pragma once

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/vector_math.h"

namespace memwall {

template <class T>
struct GeluConstants {
  static constexpr T kTwoScale = static_cast<T>(1.5957691216057307117597842397375);  // 2 sqrt(2/pi)
  static constexpr T kCubic = static_cast<T>(0.044715);
};

template <class T, class C, class Views = ValueViews>
struct Gelu {
  InputOf<Views, T, C> x;
  OutputOf<Views, T, C> y;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    constexpr C kTwoScale = GeluConstants<C>::kTwoScale, kCubic = GeluConstants<C>::kCubic;
    each_of_tile(team, row, count, [&](auto at) {
      const auto v = x(at);
      y.store(at, v * logistic(v * kTwoScale * (v * v * kCubic + C{1})));
    });
  }
};

// dx = dy (s + x s (1 - s) (2u)').
template <class T, class C, class Views = ValueViews>
struct GeluGrad {
  InputOf<Views, T, C> dy, x;
  OutputOf<Views, T, C> dx;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    constexpr C kTwoScale = GeluConstants<C>::kTwoScale, kCubic = GeluConstants<C>::kCubic;
    each_of_tile(team, row, count, [&](auto at) {
      const auto v = x(at);
      const auto square = v * v * kCubic;
      const auto s = logistic(v * kTwoScale * (square + C{1}));
      const auto slope = (square * C{3} + C{1}) * kTwoScale;
      dx.store(at, dy(at) * (s + v * s * (C{1} - s) * slope));
    });
  }
};

}  // namespace memwall
