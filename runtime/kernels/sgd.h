// Stochastic gradient descent with momentum (Sutskever et al. 2013), in the order of PyTorch's
// torch.optim.SGD without dampening and Nesterov's variant.
#pragma once

#include "runtime/kernels/elementwise.h"

namespace memwall {

template <class C>
struct SgdFactors {
  C grad_scale;
  C momentum;
  C rate;
  C decay;  // weight decay, or 0 where there is none
};

// One run of elements with one decay. S: dtype of the state, G: of the gradient; computed as C.
// m_out.data == nullptr: no momentum is kept.
template <class S, class G, class C>
struct Sgd {
  Input<S, C> p_in, m_in;
  Input<G, C> g_in;
  Output<S, C> p_out, m_out;
  SgdFactors<C> k;
  int64_t count;

  template <class Team>
  void operator()(Team& team, int64_t row) const {
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
