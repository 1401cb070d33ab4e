// ADAHESSIAN (Yao et al. 2020): Adam's update with a curvature h in the place of the gradient in
// its second moment, and a power of the denominator.
#pragma once

#include <algorithm>
#include <cmath>

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/step_control.h"
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
  bool skip;  // leaves parameters and moments as they are
};

template <class C>
MEMWALL_HOST_DEVICE AdaHessianFactors<C> adahessian_factors(const UnitAttributes& a,
                                                            const double* scalars, bool decays) {
  const double rate = scalar(scalars, Scalar::kLearningRate);
  const double correction1 = 1.0 - std::pow(a.beta1, scalar(scalars, Scalar::kUpdates));
  const double correction2 = 1.0 - std::pow(a.beta2, scalar(scalars, Scalar::kHessianUpdates));
  return {.grad_scale = static_cast<C>(scalar(scalars, Scalar::kGradScale)),
          .hessian_scale = static_cast<C>(scalar(scalars, Scalar::kHessianFactor)),
          .beta1 = static_cast<C>(a.beta1),
          .one_minus_beta1 = static_cast<C>(1.0 - a.beta1),
          .beta2 = static_cast<C>(a.beta2),
          .one_minus_beta2 = static_cast<C>(1.0 - a.beta2),
          .step = static_cast<C>(rate / correction1),
          .root_correction2 = static_cast<C>(std::pow(std::sqrt(correction2), a.hessian_power)),
          .epsilon = static_cast<C>(a.epsilon),
          .keep = decays ? static_cast<C>(1.0 - rate * a.weight_decay) : C{1},
          .power = a.hessian_power,
          .skip = scalar(scalars, Scalar::kSkip) != 0.0};
}

// sqrt(s)^k, in double precision but for k = 1.
template <class C, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<C, N> root_power(const Pack<C, N>& s,
                                                                        double k) {
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
  UnitAttributes a;
  const double* scalars;
  bool decays;
  int64_t count;
  int64_t entry_elements = 1, lead = 0;

  // h of the elements of a pack, each on its own.
  template <class At>
  MEMWALL_HOST_DEVICE Pack<C, At::kSize> curvature(At at) const {
    if (entry_elements == 1) return h_in(at);
    alignas(64) C h[At::kSize];
    const int64_t element = lead + at.first;
    int64_t entry = element / entry_elements;
    int64_t left = (entry + 1) * entry_elements - element;
    const int64_t last = (lead + count - 1) / entry_elements;
    for (int i = 0; i < At::kSize; ++i, --left) {
      if (left == 0) {
        entry = std::min(entry + 1, last);  // behind the run's end nothing is read
        left = entry_elements;
      }
      h[i] = h_in.scalar(entry);
    }
    return load<C, At::kSize>(h);
  }

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto k = team.once([&] { return adahessian_factors<C>(a, scalars, decays); });
    if (k.skip) {
      keep_state(team, row, count, p_in, p_out);
      keep_state(team, row, count, m_in, m_out);
      keep_state(team, row, count, s_in, s_out);
      return;
    }
    each_of_tile(team, row, count, [&](auto at) {
      const auto g = g_in(at) * k.grad_scale;
      const auto m = m_in(at) * k.beta1 + g * k.one_minus_beta1;
      auto s = s_in(at);
      if (s_out.data != nullptr) {
        s = s * k.beta2;
        if (h_in.data != nullptr) {
          const auto scaled = curvature(at) * k.hessian_scale;
          s = s + scaled * scaled * k.one_minus_beta2;
        }
        s_out.store(at, s);
      }
      const auto denominator = root_power(s, k.power) / k.root_correction2 + k.epsilon;
      p_out.store(at, p_in(at) * k.keep - m / denominator * k.step);
      m_out.store(at, m);
    });
  }
};

}  // namespace memwall
