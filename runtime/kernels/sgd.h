// Stochastic gradient descent with momentum (Sutskever et al. 2013), in the order of PyTorch's
// torch.optim.SGD without dampening and Nesterov's variant.
#pragma once

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/step_control.h"

namespace memwall {

template <class C>
struct SgdFactors {
  C grad_scale;
  C momentum;
  C rate;
  C decay;    // weight decay, or 0 where there is none
  bool skip;  // leaves parameters and momentum as they are
};

template <class C>
MEMWALL_HOST_DEVICE SgdFactors<C> sgd_factors(const UnitAttributes& a, const double* scalars,
                                              bool decays) {
  return {.grad_scale = static_cast<C>(scalar(scalars, Scalar::kGradScale)),
          .momentum = static_cast<C>(a.momentum),
          .rate = static_cast<C>(scalar(scalars, Scalar::kLearningRate)),
          .decay = decays ? static_cast<C>(a.weight_decay) : C{0},
          .skip = scalar(scalars, Scalar::kSkip) != 0.0};
}

// One run of elements with one decay. S: dtype of the state, G: of the gradient; computed as C.
// m_out.data == nullptr: no momentum is kept.
template <class S, class G, class C>
struct Sgd {
  Input<S, C> p_in, m_in;
  Input<G, C> g_in;
  Output<S, C> p_out, m_out;
  UnitAttributes a;
  const double* scalars;
  bool decays;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto k = team.once([&] { return sgd_factors<C>(a, scalars, decays); });
    if (k.skip) {
      keep_state(team, row, count, p_in, p_out);
      keep_state(team, row, count, m_in, m_out);
      return;
    }
    each_of_tile(team, row, count, [&](auto at) {
      const auto p = p_in(at);
      auto step = g_in(at) * k.grad_scale + p * k.decay;
      if (m_out.data != nullptr) {
        step = m_in(at) * k.momentum + step;
        m_out.store(at, step);
      }
      p_out.store(at, p - step * k.rate);
    });
  }
};

}  // namespace memwall
