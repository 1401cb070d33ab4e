// Attention as one op, against sums over all queries and keys in double precision.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/workspace.h"
#include "tests/kernels/op_case.h"

namespace memwall::test {
namespace {

struct Shapes {
  AttentionAttributes a;
  size_t at(int64_t sample, int64_t t, int64_t head, int64_t c) const {
    return static_cast<size_t>(((sample * a.time + t) * a.heads + head) * a.size + c);
  }
  size_t row(int64_t sample, int64_t head, int64_t t) const {
    return static_cast<size_t>((sample * a.heads + head) * a.time + t);
  }
  Shape values() const { return {a.samples * a.time, a.heads * a.size}; }
  int64_t rows() const { return a.samples * a.heads * a.time; }

  // f(sample, head, query, key) for every query and the keys that it sees.
  template <class F>
  void each_pair(const F& f) const {
    for (int64_t b = 0; b < a.samples; ++b) {
      for (int64_t h = 0; h < a.heads; ++h) {
        for (int64_t t = 0; t < a.time; ++t) {
          for (int64_t s = 0; s <= t; ++s) f(b, h, t, s);
        }
      }
    }
  }
  double product(const Values& x, const Values& y, int64_t b, int64_t h, int64_t t,
                 int64_t s) const {
    double sum = 0.0;
    for (int64_t c = 0; c < a.size; ++c) sum += x[at(b, t, h, c)] * y[at(b, s, h, c)];
    return sum;
  }
  // y and the log-sum-exp.
  std::vector<Values> forward(const Values& q, const Values& k, const Values& v) const {
    Values total(static_cast<size_t>(rows())), y(q.size());
    each_pair([&](int64_t b, int64_t h, int64_t t, int64_t s) {
      total[row(b, h, t)] += std::exp(a.scale * product(q, k, b, h, t, s));
    });
    each_pair([&](int64_t b, int64_t h, int64_t t, int64_t s) {
      const double p = std::exp(a.scale * product(q, k, b, h, t, s)) / total[row(b, h, t)];
      for (int64_t c = 0; c < a.size; ++c) y[at(b, t, h, c)] += p * v[at(b, s, h, c)];
    });
    for (double& x : total) x = std::log(x);
    return {y, total};
  }
  // The softmax's own gradient, ds = p (dp - sum of p dp): not by y, as the kernels do.
  std::vector<Values> backward(const Values& dy, const Values& q, const Values& k,
                               const Values& v) const {
    const Values log_sum_exp = forward(q, k, v)[1];
    Values mean(log_sum_exp.size()), dq(q.size()), dk(q.size()), dv(q.size());
    const auto probability = [&](int64_t b, int64_t h, int64_t t, int64_t s) {
      return std::exp(a.scale * product(q, k, b, h, t, s) - log_sum_exp[row(b, h, t)]);
    };
    each_pair([&](int64_t b, int64_t h, int64_t t, int64_t s) {
      mean[row(b, h, t)] += probability(b, h, t, s) * product(dy, v, b, h, t, s);
    });
    each_pair([&](int64_t b, int64_t h, int64_t t, int64_t s) {
      const double p = probability(b, h, t, s);
      const double ds = a.scale * p * (product(dy, v, b, h, t, s) - mean[row(b, h, t)]);
      for (int64_t c = 0; c < a.size; ++c) {
        dq[at(b, t, h, c)] += ds * k[at(b, s, h, c)];
        dk[at(b, s, h, c)] += ds * q[at(b, t, h, c)];
        dv[at(b, s, h, c)] += p * dy[at(b, t, h, c)];
      }
    });
    return {dq, dk, dv};
  }
};

// Whole, by samples, by heads.
const Shapes kShapes[] = {{{1, 2, 1, 8, 1.0, 1, 1}},  {{2, 5, 3, 16, 0.25, 2, 3}},
                          {{3, 70, 2, 8, 0.4, 1, 2}}, {{4, 33, 2, 8, 0.4, 2, 2}},
                          {{2, 36, 4, 8, 0.4, 1, 2}}, {{1, 129, 1, 64, 0.125, 1, 1}}};

OpCase case_of(const Shapes& shapes, Op op) {
  OpCase c;
  c.name = std::to_string(shapes.a.samples) + " samples of " + std::to_string(shapes.a.time);
  c.op = op;
  c.attributes = shapes.a;
  c.tolerance_f64 = 1e-11;
  return c;
}

TEST(Attention, MixesTheValuesOfEarlierKeys) {
  for (const Shapes& shapes : kShapes) {
    OpCase c = case_of(shapes, Op::kAttention);
    const int64_t n = shapes.values().elements();
    c.inputs = {input(shapes.values(), noise(n, 1, 2.0)), input(shapes.values(), noise(n, 2, 2.0)),
                input(shapes.values(), noise(n, 3, 2.0))};
    c.outputs = {output(shapes.values()), output({shapes.rows()}, Kind::kStatistic)};
    c.workspace_bytes = attention_workspace_bytes(shapes.a, DType::kF64);
    c.inner_roundings = 2.0;  // of probabilities, whose sum is 1, times values below 2
    c.reference = [shapes](const std::vector<Values>& in) {
      return shapes.forward(in[0], in[1], in[2]);
    };
    expect_correct(c);
  }
}

TEST(Attention, ItsGradientIsTheBodys) {
  for (const Shapes& shapes : kShapes) {
    OpCase c = case_of(shapes, Op::kAttentionGrad);
    const int64_t n = shapes.values().elements();
    const Values dy = noise(n, 4), q = noise(n, 1, 2.0), k = noise(n, 2, 2.0), v = noise(n, 3, 2.0);
    // y and the log-sum-exp follow from values that are exact in every type.
    const auto coarse = [](Values x) {
      for (double& value : x) value = std::round(value * 32.0) / 32.0;
      return x;
    };
    const std::vector<Values> forward = shapes.forward(coarse(q), coarse(k), coarse(v));
    c.inputs = {
        input(shapes.values(), coarse(dy)), input(shapes.values(), coarse(q)),
        input(shapes.values(), coarse(k)),  input(shapes.values(), coarse(v)),
        input(shapes.values(), forward[0]), input({shapes.rows()}, forward[1], Kind::kStatistic)};
    for (int i = 0; i < 3; ++i) c.outputs.push_back(output(shapes.values()));
    c.workspace_bytes = attention_grad_workspace_bytes(shapes.a, DType::kF64);
    // y is rounded to the type, and its product with dy is as far off in every ds.
    c.dtypes = {DType::kF32, DType::kF64};
    c.tolerance_f32 = 1e-4;
    c.reference = [shapes](const std::vector<Values>& in) {
      return shapes.backward(in[0], in[1], in[2], in[3]);
    };
    expect_correct(c);
    c.dtypes = {DType::kF16};
    c.tolerance_f32 = 2e-2;
    expect_correct(c);
    c.dtypes = {DType::kBF16};
    c.tolerance_f32 = 1.5e-1;
    expect_correct(c);
  }
}

}  // namespace
}  // namespace memwall::test
