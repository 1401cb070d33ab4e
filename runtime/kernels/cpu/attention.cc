// Causal attention and its gradients, plainly: no CPU target selects them, the chunked body is
// faster. They are what the GPU's are compared with. The twin of cuda/attention.cc.
#include <cmath>

#include "runtime/base/workspace.h"
#include "runtime/kernels/launchers/types.h"

namespace memwall::launchers {
namespace {

template <class T>
struct Head {
  using C = Accumulator<T>;
  AttentionAttributes spec;

  // Element 0 of a row of the head, in tensors of (samples, time, heads, size).
  int64_t row(int64_t head, int64_t t) const {
    return ((head / spec.heads * spec.time + t) * spec.heads + head % spec.heads) * spec.size;
  }
  C product(const T* x, const T* y) const {
    C sum{0};
    for (int64_t c = 0; c < spec.size; ++c) sum += static_cast<C>(x[c]) * static_cast<C>(y[c]);
    return sum;
  }
  // scores[0..t] of query t.
  void scores_of(const T* q, const T* k, int64_t head, int64_t t, C* scores) const {
    for (int64_t s = 0; s <= t; ++s) {
      scores[s] = static_cast<C>(spec.scale) * product(q + row(head, t), k + row(head, s));
    }
  }
};

template <class T>
struct Forward : Head<T> {
  using typename Head<T>::C;
  const T *q, *k, *v;
  T* y;
  C *log_sum_exp, *scratch;  // scratch: a row of scores a head

  template <class Team>
  void operator()(Team&, int64_t head) const {
    const AttentionAttributes& a = this->spec;
    C* const p = scratch + head * a.time;
    for (int64_t t = 0; t < a.time; ++t) {
      this->scores_of(q, k, head, t, p);
      const C largest = *std::max_element(p, p + t + 1);
      C sum{0};
      for (int64_t s = 0; s <= t; ++s) sum += p[s] = std::exp(p[s] - largest);
      log_sum_exp[head * a.time + t] = largest + std::log(sum);
      for (int64_t c = 0; c < a.size; ++c) {
        C mixed{0};
        for (int64_t s = 0; s <= t; ++s) {
          mixed += p[s] * static_cast<C>(v[this->row(head, s) + c]);
        }
        y[this->row(head, t) + c] = T(mixed / sum);
      }
    }
  }
};

template <class T>
struct Backward : Head<T> {
  using typename Head<T>::C;
  const T *dy, *q, *k, *v, *y;
  const C* log_sum_exp;
  T *dq, *dk, *dv;
  C* scratch;  // of a head: dk and dv, a row of probabilities and one of their gradients

  template <class Team>
  void operator()(Team&, int64_t head) const {
    const AttentionAttributes& a = this->spec;
    const int64_t elements = a.time * a.size;
    C* const dk_sum = scratch + head * 2 * (elements + a.time);
    C* const dv_sum = dk_sum + elements;
    C *const p = dv_sum + elements, *const ds = p + a.time;
    std::fill(dk_sum, p, C{0});
    for (int64_t t = 0; t < a.time; ++t) {
      const int64_t query = this->row(head, t);
      const C own = this->product(dy + query, y + query);
      this->scores_of(q, k, head, t, p);
      for (int64_t s = 0; s <= t; ++s) {
        p[s] = std::exp(p[s] - log_sum_exp[head * a.time + t]);
        ds[s] = static_cast<C>(a.scale) * p[s] *
                (this->product(dy + query, v + this->row(head, s)) - own);
      }
      for (int64_t c = 0; c < a.size; ++c) {
        C sum{0};
        for (int64_t s = 0; s <= t; ++s) {
          sum += ds[s] * static_cast<C>(k[this->row(head, s) + c]);
          dk_sum[s * a.size + c] += ds[s] * static_cast<C>(q[query + c]);
          dv_sum[s * a.size + c] += p[s] * static_cast<C>(dy[query + c]);
        }
        dq[query + c] = T(sum);
      }
    }
    for (int64_t s = 0; s < a.time; ++s) {
      for (int64_t c = 0; c < a.size; ++c) {
        dk[this->row(head, s) + c] = T(dk_sum[s * a.size + c]);
        dv[this->row(head, s) + c] = T(dv_sum[s * a.size + c]);
      }
    }
  }
};

}  // namespace

void attention(const KernelCall& call) {
  const auto& a = std::get<AttentionAttributes>(call.attributes);
  with_float_type(call.inputs[0].dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    check(static_cast<int64_t>(call.workspace.size()) >=
              attention_workspace_bytes(a, call.inputs[0].dtype),
          "attention: the workspace is too small");
    const Forward<T> kernel{{a},
                            call.inputs[0].as<const T>(),
                            call.inputs[1].as<const T>(),
                            call.inputs[2].as<const T>(),
                            call.outputs[0].as<T>(),
                            call.outputs[1].as<C>(),
                            reinterpret_cast<C*>(call.workspace.data())};
    launch(call, a.samples * a.heads, a.time * a.time * a.size, kernel);
  });
}

void attention_grad(const KernelCall& call) {
  const auto& a = std::get<AttentionAttributes>(call.attributes);
  with_float_type(call.inputs[0].dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    check(static_cast<int64_t>(call.workspace.size()) >=
              attention_grad_workspace_bytes(a, call.inputs[0].dtype),
          "attention_grad: the workspace is too small");
    const auto in = [&](size_t i) { return call.inputs[i].as<const T>(); };
    const Backward<T> kernel{{a},
                             in(0),
                             in(1),
                             in(2),
                             in(3),
                             in(4),
                             call.inputs[5].as<const C>(),
                             call.outputs[0].as<T>(),
                             call.outputs[1].as<T>(),
                             call.outputs[2].as<T>(),
                             reinterpret_cast<C*>(call.workspace.data())};
    launch(call, a.samples * a.heads, a.time * a.time * a.size, kernel);
  });
}

}  // namespace memwall::launchers
