// Layer norm over rows of `width` elements (Ba, Kiros and Hinton 2016).
// T: dtype of the tensors, Out: of a gradient, C: of arithmetic and statistics. Views:
// `ValueViews`, or `DualViews` for tangents too.
#pragma once

#include <cmath>

#include "runtime/kernels/team.h"

namespace memwall {

// y = (x - mean) rstd gamma + beta, rstd = 1 / sqrt(var + epsilon).
template <class T, class C, class Views = ValueViews>
struct LayerNorm {
  InputOf<Views, T, C> x, gamma, beta;
  OutputOf<Views, T, C> y;
  OutputOf<Views, C> mean, rstd;
  int64_t width;
  C epsilon;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto in = x.from(row * width);
    const auto out = y.from(row * width);
    const C n = static_cast<C>(width);
    const auto m = team.sum(width, [&](auto at) { return in(at); }) / n;
    const auto variance = team.sum(width, [&](auto at) {
      const auto d = in(at)-m;
      return d * d;
    }) / n;
    using std::sqrt;
    const auto r = C{1} / sqrt(variance + epsilon);
    team.each(0, width, [&](auto at) { out.store(at, fma((in(at)-m) * r, gamma(at), beta(at))); });
    team.lead([&] {
      mean.set(row, m);
      rstd.set(row, r);
    });
  }
};

// dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma, xhat = (x - mean) rstd.
template <class Out, class T, class C, class Views = ValueViews>
struct LayerNormGrad {
  InputOf<Views, T, C> dy, x, gamma;
  InputOf<Views, C> mean, rstd;
  OutputOf<Views, Out, C> dx;
  int64_t width;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto upper = dy.from(row * width), in = x.from(row * width);
    const auto out = dx.from(row * width);
    const auto m = mean.scalar(row), r = rstd.scalar(row);
    const C n = static_cast<C>(width);
    const auto g = [&](auto at) { return upper(at) * gamma(at); };
    const auto xhat = [&](auto at) { return (in(at)-m) * r; };
    const auto mean_g = team.sum(width, g) / n;
    const auto mean_gx = team.sum(width, [&](auto at) { return g(at) * xhat(at); }) / n;
    team.each(0, width, [&](auto at) { out.store(at, r * (g(at) - mean_g - xhat(at) * mean_gx)); });
  }
};

}  // namespace memwall
