#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/dual_case.h"

namespace memwall::test {
namespace {

// Rows of queries of a chunk, as in softmax.h.
struct Causal {
  int64_t heads, rows, width, stride, period, iteration;

  int64_t chunk() const { return iteration % period; }
  int64_t block_end() const { return std::min((chunk() + 1) * rows, width); }
  int64_t visible(int64_t row) const { return std::min(chunk() * rows + row % rows + 1, width); }
  int64_t elements() const { return heads * rows * stride; }

  OpCase op_case(Op op, std::vector<double> scales) const {
    OpCase c;
    c.name = std::to_string(rows) + "x" + std::to_string(width) + " iteration " +
             std::to_string(iteration);
    c.op = op;
    RowsAttributes a = rows_attributes(heads, rows, width, stride);
    a.period = period;
    c.attributes = a;
    c.iteration = iteration;
    for (double scale : scales) {
      Values x = noise(elements(), static_cast<uint32_t>(c.inputs.size()) + 1, scale);
      for (int64_t i = 0; i < elements(); ++i) {  // where a kernel must not look
        if (i % stride >= visible(i / stride)) x[at(i)] = std::nan("");
      }
      c.inputs.push_back(input({heads, rows, stride}, x));
    }
    c.outputs = {output({heads, rows, stride})};
    c.outputs[0].values = c.inputs[0].values;
    c.in_place = {{0, 0}};
    return c;
  }

  // f(first, count) gives the tangents of the `count` visible elements of a row.
  Values by_row(const std::function<Values(size_t first, int64_t count)>& f) const {
    Values out(at(elements()), kUntouched);
    for (int64_t row = 0; row < heads * rows; ++row) {
      const Values tangents = f(at(row * stride), visible(row));
      for (int64_t i = 0; i < block_end(); ++i) {
        out[at(row * stride + i)] = i < visible(row) ? tangents[at(i)] : 0.0;
      }
    }
    return out;
  }
};

const Causal kCausal[] = {{2, 9, 9, 9, 1, 0},
                          {3, 8, 32, 32, 4, 0},
                          {3, 8, 32, 40, 4, 6},
                          {2, 50, 200, 200, 4, 3},
                          {1, 64, 300, 320, 5, 9},
                          {2, 1, 77, 77, 77, 40},
                          {1, 2, 2500, 2500, 1250, 1249}};

TEST(Dual, CausalSoftmax) {
  for (const Causal& shape : kCausal) {
    const OpCase c = shape.op_case(Op::kCausalSoftmax, {8.0});
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      return std::vector<Values>{shape.by_row([&](size_t first, int64_t count) {
        Values p(at(count));
        double total = 0, mean = 0;
        for (size_t i = 0; i < p.size(); ++i) total += p[i] = std::exp(in[0][first + i]);
        for (size_t i = 0; i < p.size(); ++i) mean += (p[i] /= total) * d[0][first + i];
        for (size_t i = 0; i < p.size(); ++i) p[i] *= d[0][first + i] - mean;
        return p;
      })};
    });
  }
}

TEST(Dual, SoftmaxGrad) {
  for (const Causal& shape : kCausal) {
    const OpCase c = shape.op_case(Op::kSoftmaxGrad, {1.0, 1.0});
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      return std::vector<Values>{shape.by_row([&](size_t first, int64_t count) {
        Values out(at(count));
        double sum = 0, dsum = 0;
        for (size_t e = first; e < first + out.size(); ++e) {
          sum += in[0][e] * in[1][e];
          dsum += d[0][e] * in[1][e] + in[0][e] * d[1][e];
        }
        for (size_t i = 0, e = first; i < out.size(); ++i, ++e) {
          out[i] = d[1][e] * (in[0][e] - sum) + in[1][e] * (d[0][e] - dsum);
        }
        return out;
      })};
    });
  }
}

struct Logits {
  int64_t rows, width, stride;
  double scale;
};
const Logits kLogits[] = {{5, 3, 64, 1.0},
                          {40, 7, 64, 1.0},
                          {13, 1000, 1024, 5.0},
                          {4, 1024, 1024, 3.0},
                          {9, 2001, 2048, 30.0}};

OpCase cross_entropy_case(const Logits& shape, Op op) {
  OpCase c;
  c.name = std::to_string(shape.rows) + "x" + std::to_string(shape.width);
  c.op = op;
  c.attributes = rows_attributes(1, shape.rows, shape.width, shape.stride);
  Values logits = noise(shape.rows * shape.stride, 1, shape.scale);
  for (int64_t i = 0; i < shape.rows * shape.stride; ++i) {
    if (i % shape.stride >= shape.width) logits[at(i)] = std::nan("");
  }
  c.inputs = {input({shape.rows, shape.stride}, logits),
              input({shape.rows}, whole_numbers(shape.rows, 2, shape.width), Kind::kI32)};
  c.tolerance_f32 = 1e-6 * (10.0 + shape.scale);
  return c;
}

TEST(Dual, CrossEntropy) {
  for (const Logits& shape : kLogits) {
    OpCase c = cross_entropy_case(shape, Op::kCrossEntropy);
    c.outputs = {output({shape.rows}, Kind::kStatistic), output({shape.rows}, Kind::kStatistic)};
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values dloss, dlse;
      for (int64_t row = 0; row < shape.rows; ++row) {
        const size_t first = at(row * shape.stride);
        double total = 0, weighted = 0;
        for (size_t e = first; e < first + at(shape.width); ++e) {
          total += std::exp(in[0][e]);
          weighted += std::exp(in[0][e]) * d[0][e];
        }
        dlse.push_back(weighted / total);
        dloss.push_back(weighted / total - d[0][first + static_cast<size_t>(in[1][at(row)])]);
      }
      return std::vector<Values>{dloss, dlse};
    });
  }
}

TEST(Dual, CrossEntropyGrad) {
  for (const Logits& shape : kLogits) {
    OpCase c = cross_entropy_case(shape, Op::kCrossEntropyGrad);
    Values lse;
    for (int64_t row = 0; row < shape.rows; ++row) {
      double total = 0;
      for (int64_t i = 0; i < shape.width; ++i) {
        total += std::exp(c.inputs[0].values[at(row * shape.stride + i)]);
      }
      lse.push_back(std::log(total));
    }
    c.inputs.insert(c.inputs.begin(), input({shape.rows}, noise(shape.rows, 3), Kind::kStatistic));
    c.inputs.push_back(input({shape.rows}, lse, Kind::kStatistic));
    c.outputs = {output({shape.rows, shape.stride})};
    c.in_place = {{0, 1}};
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values out(in[1].size(), 0.0);
      for (int64_t row = 0; row < shape.rows; ++row) {
        for (int64_t i = 0; i < shape.width; ++i) {
          const size_t e = at(row * shape.stride + i), r = at(row);
          const double p = std::exp(in[1][e] - in[3][r]);
          const double onehot = static_cast<double>(i) == in[2][r] ? 1.0 : 0.0;
          out[e] = p * (d[1][e] - d[3][r]) * in[0][r] + (p - onehot) * d[0][r];
        }
      }
      return std::vector<Values>{out};
    });
  }
}

}  // namespace
}  // namespace memwall::test
