#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/workspace.h"
#include "tests/kernels/gelu_reference.h"
#include "tests/kernels/op_case.h"

namespace memwall::test {
namespace {

constexpr double kEpsilon = 1e-5;

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

OpCase case_of(Op op, int64_t rows, int64_t width) {
  OpCase c;
  c.name = std::to_string(rows) + " x " + std::to_string(width);
  c.op = op;
  RowsAttributes a;
  a.rows = rows, a.width = a.stride = width;
  a.epsilon = kEpsilon;
  c.attributes = a;
  // In 16 bits what lies between two of the ops is rounded, which the references here do not do:
  // select_test compares those bits with the ops' own.
  c.dtypes = {DType::kF32, DType::kF64};
  c.workspace_bytes = block_sums_workspace_bytes(rows, 2 * width, DType::kF64);
  return c;
}

struct Sizes {
  int64_t rows, width;
};
constexpr Sizes kSizes[] = {{1, 7}, {63, 16}, {64, 100}, {65, 157}, {200, 768}, {3, 5000}};

TEST(Fused, BiasGelu) {
  for (const auto& [rows, width] : kSizes) {
    OpCase c = case_of(Op::kBiasGelu, rows, width);
    c.inputs = {input({rows, width}, noise(rows * width, 1)), input({width}, noise(width, 2))};
    c.outputs = {output({rows, width}), output({rows, width})};
    c.in_place = {{0, 0}};
    c.reference = [width = width](const std::vector<Values>& in) {
      Values h = in[0], y = in[0];
      for (size_t i = 0; i < h.size(); ++i) {
        h[i] += in[1][i % at(width)];
        y[i] = gelu(h[i]);
      }
      return std::vector<Values>{h, y};
    };
    expect_correct(c);
  }
}

TEST(Fused, AddLayerNorm) {
  for (const auto& [rows, width] : kSizes) {
    OpCase c = case_of(Op::kAddLayerNorm, rows, width);
    c.inputs = {input({rows, width}, noise(rows * width, 1)),
                input({rows, width}, noise(rows * width, 2)), input({width}, noise(width, 3)),
                input({width}, noise(width, 4))};
    c.outputs = {output({rows, width}), output({rows, width}), output({rows}, Kind::kStatistic),
                 output({rows}, Kind::kStatistic)};
    c.in_place = {{0, 0}, {0, 1}};
    c.reference = [rows = rows, width = width](const std::vector<Values>& in) {
      Values sum = in[0], y = in[0], means, rstds;
      for (int64_t r = 0; r < rows; ++r) {
        double mean = 0, variance = 0;
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
          sum[at(i)] += in[1][at(i)];
          mean += sum[at(i)] / double(width);
        }
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
          variance += std::pow(sum[at(i)] - mean, 2) / double(width);
        }
        means.push_back(mean);
        rstds.push_back(1.0 / std::sqrt(variance + kEpsilon));
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
          y[at(i)] =
              (sum[at(i)] - mean) * rstds.back() * in[2][at(i % width)] + in[3][at(i % width)];
        }
      }
      return std::vector<Values>{sum, y, means, rstds};
    };
    c.tolerance_f32 = 1e-5;
    expect_correct(c);
  }
}

TEST(Fused, GeluGradColumns) {
  for (const auto& [rows, width] : kSizes) {
    OpCase c = case_of(Op::kGeluGradColumns, rows, width);
    c.inputs = {input({rows, width}, noise(rows * width, 1)),
                input({rows, width}, noise(rows * width, 2))};
    c.outputs = {output({width}), output({rows, width})};
    c.in_place = {{1, 0}};
    c.reference = [width = width](const std::vector<Values>& in) {
      Values columns(at(width), 0.0), dx = in[0];
      for (size_t i = 0; i < dx.size(); ++i) {
        dx[i] *= gelu_slope(in[1][i]);
        columns[i % at(width)] += dx[i];
      }
      return std::vector<Values>{columns, dx};
    };
    for (bool accumulate : {false, true}) {
      c.accumulate = accumulate;
      expect_correct(c);
    }
  }
}

TEST(Fused, LayerNormGrads) {
  for (const auto& [rows, width] : kSizes) {
    OpCase c = case_of(Op::kLayerNormGrads, rows, width);
    Values rstd = noise(rows, 6);
    for (double& v : rstd) v = std::abs(v) + 0.5;
    c.inputs = {input({rows, width}, noise(rows * width, 1)),
                input({rows, width}, noise(rows * width, 2)), input({width}, noise(width, 3)),
                input({rows}, noise(rows, 4), Kind::kStatistic),
                input({rows}, rstd, Kind::kStatistic)};
    c.outputs = {output({rows, width}), output({width}), output({width})};
    c.in_place = {{0, 0}};
    c.reference = [rows = rows, width = width](const std::vector<Values>& in) {
      Values dx = in[0], dgamma(at(width), 0.0), dbeta(at(width), 0.0);
      for (int64_t r = 0; r < rows; ++r) {
        double mean_g = 0, mean_gx = 0;
        const auto xhat = [&](int64_t i) { return (in[1][at(i)] - in[3][at(r)]) * in[4][at(r)]; };
        const auto g = [&](int64_t i) { return in[0][at(i)] * in[2][at(i % width)]; };
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
          mean_g += g(i) / double(width);
          mean_gx += g(i) * xhat(i) / double(width);
          dgamma[at(i % width)] += in[0][at(i)] * xhat(i);
          dbeta[at(i % width)] += in[0][at(i)];
        }
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
          dx[at(i)] = in[4][at(r)] * (g(i) - mean_g - xhat(i) * mean_gx);
        }
      }
      return std::vector<Values>{dx, dgamma, dbeta};
    };
    expect_correct(c);
    c.accumulate = true;
    c.in_place.clear();
    expect_correct(c);
  }
}

}  // namespace
}  // namespace memwall::test
