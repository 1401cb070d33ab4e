// AdamW (Loshchilov and Hutter 2019), in the order of PyTorch's torch.optim.AdamW.
#pragma once

#include "runtime/kernels/elementwise.h"

namespace memwall {

// The factors of one step, in the arithmetic's type.
template <class C>
struct AdamWFactors {
  C grad_scale;
  C beta1, one_minus_beta1, beta2, one_minus_beta2;
  C step;              // rate / (1 - beta1^t)
  C root_correction2;  // sqrt(1 - beta2^t)
  C epsilon;
  C keep;  // 1 - rate * weight decay, or 1 where there is none
};

// One run of elements with one decay. S: dtype of the state, G: of the gradient; computed as C.
template <class S, class G, class C>
struct AdamW {
  Input<S, C> p_in, m_in, v_in;
  Input<G, C> g_in;
  Output<S, C> p_out, m_out, v_out;
  AdamWFactors<C> k;
  int64_t count;

  template <class Team>
  void operator()(Team& team, int64_t row) const {
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
