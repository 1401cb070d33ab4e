// ADAHESSIAN (Yao et al. 2020): Adam's update with a curvature h in the place of the gradient in
// its second moment, and a power of the denominator.
#pragma once

#include <algorithm>

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/vector_math.h"

namespace memwall {

// The factors of one step, in the arithmetic's type.
template <class C>
struct AdaHessianFactors {
  C grad_scale, hessian_scale;
  C beta1, one_minus_beta1, beta2, one_minus_beta2;
  C step;              // rate / (1 - beta1^t)
  C root_correction2;  // (sqrt(1 - beta2^u))^power after u measurements
  C epsilon;
  C keep;  // 1 - rate * weight decay, or 1 where there is none
  double power;
};

// sqrt(s)^k, in double precision but for k = 1.
template <class C, int N>
[[gnu::always_inline]] inline Pack<C, N> root_power(const Pack<C, N>& s, double k) {
  if (k == 1.0) return sqrt(s);
  C lanes[N];
  store(lanes, s);
  for (int i = 0; i < N; i += kLanes) {
    store(lanes + i, power(load<double, kLanes>(lanes + i), 0.5 * k));
  }
  return load<C, N>(lanes);
}

// One run of elements with one decay. S: dtype of the state, G: of the gradient; computed as C.
// h_in holds an entry for each `entry_elements` elements of the tensor, the first of them that of
// the run's first element, which is element `lead` of its entry. h_in.data == nullptr: of padding,
// whose curvature is zero. s_out.data == nullptr: no curvature was measured, s is read only.
template <class S, class G, class C>
struct AdaHessian {
  Input<S, C> p_in, m_in, s_in;
  Input<G, C> g_in;
  Input<S, C> h_in;
  Output<S, C> p_out, m_out, s_out;
  AdaHessianFactors<C> k;
  int64_t count;
  int64_t entry_elements = 1, lead = 0;

  // h of the elements of tile `row`, each on its own.
  void expand(int64_t row, C (&h)[kTile]) const {
    const int64_t begin = row * kTile, size = std::min(count - begin, kTile);
    int64_t entry = (lead + begin) / entry_elements;
    int64_t end = (entry + 1) * entry_elements - lead - begin;
    for (int64_t i = 0; i < size; i = end, end += entry_elements, ++entry) {
      std::fill(h + i, h + std::min(end, size), h_in.scalar(entry));
    }
  }

  template <class Team>
  void update(Team& team, int64_t row, Input<C> h) const {
    each_of_tile(team, row, count, [&](auto at) {
      const auto g = g_in(at) * k.grad_scale;
      const auto m = m_in(at) * k.beta1 + g * k.one_minus_beta1;
      auto s = s_in(at);
      if (s_out.data != nullptr) {
        s = s * k.beta2;
        if (h.data != nullptr) {
          const auto scaled = h(at) * k.hessian_scale;
          s = s + scaled * scaled * k.one_minus_beta2;
        }
        s_out.store(at, s);
      }
      const auto denominator = root_power(s, k.power) / k.root_correction2 + k.epsilon;
      p_out.store(at, p_in(at) * k.keep - m / denominator * k.step);
      m_out.store(at, m);
    });
  }

  template <class Team>
  void operator()(Team& team, int64_t row) const {
    if (h_in.data == nullptr || entry_elements == 1) {
      update(team, row, {h_in.data});
      return;
    }
    alignas(64) C h[kTile];
    expand(row, h);
    update(team, row, {h - row * kTile});
  }
};

}  // namespace memwall
