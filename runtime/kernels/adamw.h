// AdamW (Loshchilov and Hutter 2019), in the order of PyTorch's torch.optim.AdamW.
#pragma once

#include <cmath>

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/step_control.h"

namespace memwall {

// The factors of one step, in the arithmetic's type.
template <class C>
struct AdamWFactors {
  C grad_scale;
  C beta1, one_minus_beta1, beta2, one_minus_beta2;
  C step;              // rate / (1 - beta1^t)
  C root_correction2;  // sqrt(1 - beta2^t)
  C epsilon;
  C keep;     // 1 - rate * weight decay, or 1 where there is none
  bool skip;  // leaves parameters and moments as they are
};

template <class C>
MEMWALL_HOST_DEVICE AdamWFactors<C> adamw_factors(const UnitAttributes& a, const double* scalars,
                                                  bool decays) {
  const double rate = scalar(scalars, Scalar::kLearningRate);
  const double t = scalar(scalars, Scalar::kUpdates);
  return {.grad_scale = static_cast<C>(scalar(scalars, Scalar::kGradScale)),
          .beta1 = static_cast<C>(a.beta1),
          .one_minus_beta1 = static_cast<C>(1.0 - a.beta1),
          .beta2 = static_cast<C>(a.beta2),
          .one_minus_beta2 = static_cast<C>(1.0 - a.beta2),
          .step = static_cast<C>(rate / (1.0 - std::pow(a.beta1, t))),
          .root_correction2 = static_cast<C>(std::sqrt(1.0 - std::pow(a.beta2, t))),
          .epsilon = static_cast<C>(a.epsilon),
          .keep = decays ? static_cast<C>(1.0 - rate * a.weight_decay) : C{1},
          .skip = scalar(scalars, Scalar::kSkip) != 0.0};
}

// One run of elements with one decay. S: dtype of the state, G: of the gradient; computed as C.
template <class S, class G, class C>
struct AdamW {
  Input<S, C> p_in, m_in, v_in;
  Input<G, C> g_in;
  Output<S, C> p_out, m_out, v_out;
  UnitAttributes a;
  const double* scalars;
  bool decays;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto k = team.once([&] { return adamw_factors<C>(a, scalars, decays); });
    if (k.skip) {
      keep_state(team, row, count, p_in, p_out);
      keep_state(team, row, count, m_in, m_out);
      keep_state(team, row, count, v_in, v_out);
      return;
    }
    each_of_tile(team, row, count, [&](auto at) {
      const auto g = g_in(at) * k.grad_scale;
      const auto m = m_in(at) * k.beta1 + g * k.one_minus_beta1;
      const auto v = v_in(at) * k.beta2 + g * g * k.one_minus_beta2;
      const auto denominator = sqrt(v) / k.root_correction2 + k.epsilon;
      p_out.store(at, p_in(at) * k.keep - m / denominator * k.step);
      m_out.store(at, m);
      v_out.store(at, v);
    });
  }
};

}  // namespace memwall
