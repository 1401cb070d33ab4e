// Attention and its gradient in double precision, row by row, for the test of the imitated cuDNN.
// Tensors are rows (batch * time, heads * size).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace memwall::imitated::test {

struct AttentionShape {
  int64_t batch, heads, time, size;
  double scale;
  bool is_causal;

  int64_t count() const { return batch * time * heads * size; }
  int64_t rows() const { return batch * heads * time; }
  // The head's first element of a row.
  int64_t at(int64_t b, int64_t h, int64_t t) const { return ((b * time + t) * heads + h) * size; }
  int64_t row(int64_t b, int64_t h, int64_t t) const { return (b * heads + h) * time + t; }
};

struct AttentionInputs {
  std::vector<double> q, k, v, d_o;
};

struct AttentionResults {
  std::vector<double> o, stats, d_q, d_k, d_v;
};

namespace detail {

inline double dot(const double* a, const double* b, int64_t count) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}
inline void add(double* sum, double factor, const double* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += factor * values[i];
}

// One query: its output, its log-sum-exp, and what it adds to the gradients.
inline void attend(const AttentionShape& s, const AttentionInputs& in, AttentionResults& out,
                   int64_t b, int64_t h, int64_t t) {
  const int64_t seen = s.is_causal ? t + 1 : s.time;
  const int64_t here = s.at(b, h, t);
  std::vector<double> p(static_cast<size_t>(seen));
  double sum = 0.0;
  for (int64_t j = 0; j < seen; ++j) {
    p[j] = std::exp(s.scale * dot(&in.q[here], &in.k[s.at(b, h, j)], s.size));
    sum += p[j];
  }
  out.stats[s.row(b, h, t)] = std::log(sum);
  double weighted = 0.0;  // sum of p dp
  for (int64_t j = 0; j < seen; ++j) {
    p[j] /= sum;
    const int64_t there = s.at(b, h, j);
    add(&out.o[here], p[j], &in.v[there], s.size);
    add(&out.d_v[there], p[j], &in.d_o[here], s.size);
    weighted += p[j] * dot(&in.d_o[here], &in.v[there], s.size);
  }
  for (int64_t j = 0; j < seen; ++j) {
    const int64_t there = s.at(b, h, j);
    const double d_score = s.scale * p[j] * (dot(&in.d_o[here], &in.v[there], s.size) - weighted);
    add(&out.d_q[here], d_score, &in.k[there], s.size);
    add(&out.d_k[there], d_score, &in.q[here], s.size);
  }
}

}  // namespace detail

inline AttentionResults attention(const AttentionShape& shape, const AttentionInputs& inputs) {
  AttentionResults results;
  for (auto* tensor : {&results.o, &results.d_q, &results.d_k, &results.d_v}) {
    tensor->resize(static_cast<size_t>(shape.count()));
  }
  results.stats.resize(static_cast<size_t>(shape.rows()));
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      for (int64_t t = 0; t < shape.time; ++t) detail::attend(shape, inputs, results, b, h, t);
    }
  }
  return results;
}

}  // namespace memwall::imitated::test
