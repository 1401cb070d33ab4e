#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/error.h"
#include "tests/kernels/dual_case.h"
#include "tests/kernels/op_device.h"

namespace memwall::test {
namespace {

constexpr int64_t kRows = 27;
constexpr double kEpsilon = 1e-5;

double mean_of_row(const std::function<double(int64_t)>& f, int64_t row, int64_t width) {
  double total = 0;
  for (int64_t i = row * width; i < (row + 1) * width; ++i) total += f(i);
  return total / static_cast<double>(width);
}

TEST(Dual, LayerNorm) {
  for (int64_t width : {1, 7, 16, 100, 768}) {
    OpCase c;
    c.name = "width " + std::to_string(width);
    c.op = Op::kLayerNorm;
    RowsAttributes a = rows_attributes(1, kRows, width);
    a.epsilon = kEpsilon;
    c.attributes = a;
    Values shifted = noise(kRows * width, 1);
    for (double& v : shifted) v += 1.5;
    c.inputs = {input({kRows, width}, shifted), input({width}, noise(width, 2)),
                input({width}, noise(width, 3))};
    c.outputs = {output({kRows, width}), output({kRows}, Kind::kStatistic),
                 output({kRows}, Kind::kStatistic)};
    c.in_place = {{0, 0}};
    expect_dual_correct(c, [width](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values dy(at(kRows * width)), dmean, drstd;
      const auto x = [&](int64_t i) { return in[0][at(i)]; };
      const auto dx = [&](int64_t i) { return d[0][at(i)]; };
      for (int64_t row = 0; row < kRows; ++row) {
        const double m = mean_of_row(x, row, width), dm = mean_of_row(dx, row, width);
        const auto square = [&](int64_t i) { return (x(i) - m) * (x(i) - m); };
        const auto product = [&](int64_t i) { return (x(i) - m) * dx(i); };
        const double r = 1.0 / std::sqrt(mean_of_row(square, row, width) + kEpsilon);
        const double dr = -r * r * r * mean_of_row(product, row, width);
        for (int64_t column = 0; column < width; ++column) {
          const int64_t i = row * width + column;
          dy[at(i)] = ((dx(i) - dm) * r + (x(i) - m) * dr) * in[1][at(column)] +
                      (x(i) - m) * r * d[1][at(column)] + d[2][at(column)];
        }
        dmean.push_back(dm);
        drstd.push_back(dr);
      }
      return std::vector<Values>{dy, dmean, drstd};
    });
  }
}

TEST(Dual, LayerNormGrad) {
  for (int64_t width : {7, 64, 100, 768}) {
    OpCase c;
    c.name = "width " + std::to_string(width);
    c.op = Op::kLayerNormGrad;
    c.attributes = rows_attributes(1, kRows, width);
    // The statistics are inputs like others: they need not be those of x.
    c.inputs = {input({kRows, width}, noise(kRows * width, 4)),
                input({kRows, width}, noise(kRows * width, 1)), input({width}, noise(width, 2)),
                input({kRows}, noise(kRows, 3, 0.1), Kind::kStatistic),
                input({kRows}, noise(kRows, 5, 2.0), Kind::kStatistic)};
    c.outputs = {output({kRows, width})};
    c.in_place = {{0, 0}, {0, 1}};
    c.also_wide = true;
    const auto tangents = [width](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values ddx(in[0].size());
      for (int64_t row = 0; row < kRows; ++row) {
        const double m = in[3][at(row)], r = in[4][at(row)], dm = d[3][at(row)], dr = d[4][at(row)];
        const auto g = [&](int64_t i) { return in[0][at(i)] * in[2][at(i % width)]; };
        const auto dg = [&](int64_t i) {
          return d[0][at(i)] * in[2][at(i % width)] + in[0][at(i)] * d[2][at(i % width)];
        };
        const auto xhat = [&](int64_t i) { return (in[1][at(i)] - m) * r; };
        const auto dxhat = [&](int64_t i) {
          return (d[1][at(i)] - dm) * r + (in[1][at(i)] - m) * dr;
        };
        const double mean = mean_of_row(g, row, width), dmean = mean_of_row(dg, row, width);
        const double both = mean_of_row([&](int64_t i) { return g(i) * xhat(i); }, row, width);
        const double dboth =
            mean_of_row([&](int64_t i) { return dg(i) * xhat(i) + g(i) * dxhat(i); }, row, width);
        for (int64_t i = row * width; i < (row + 1) * width; ++i) {
          ddx[at(i)] = dr * (g(i) - mean - xhat(i) * both) +
                       r * (dg(i) - dmean - dxhat(i) * both - xhat(i) * dboth);
        }
      }
      return std::vector<Values>{ddx};
    };
    expect_dual_correct_and_adding(c, tangents);
  }
}

TEST(Dual, LayerNormScaleGrad) {
  constexpr int64_t kWidth = 157;
  for (int64_t rows : {1, 64, 65, 200}) {
    OpCase c;
    c.name = "rows " + std::to_string(rows);
    c.op = Op::kLayerNormScaleGrad;
    c.attributes = rows_attributes(1, rows, kWidth);
    c.inputs = {input({rows, kWidth}, noise(rows * kWidth, 1)),
                input({rows, kWidth}, noise(rows * kWidth, 2)),
                input({rows}, noise(rows, 3), Kind::kStatistic),
                input({rows}, noise(rows, 4), Kind::kStatistic)};
    c.outputs = {output({kWidth})};
    c.also_wide = true;
    expect_dual_correct_and_adding(
        c, [rows](const std::vector<Values>& in, const std::vector<Values>& d) {
          Values sums(kWidth, 0.0);
          for (int64_t i = 0; i < rows * kWidth; ++i) {
            const size_t e = at(i), row = at(i / kWidth);
            const double centred = in[1][e] - in[2][row], r = in[3][row];
            sums[at(i % kWidth)] += d[0][e] * centred * r + in[0][e] * (d[1][e] - d[2][row]) * r +
                                    in[0][e] * centred * d[3][row];
          }
          return std::vector<Values>{sums};
        });
  }
}

constexpr int64_t kCount = 20011;        // several tiles, no multiple of anything
constexpr double kLargeArguments = 1e4;  // a difference of 1e-5 would lose seven digits

// The derivatives of x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3).
struct GeluDerivatives {
  double first, second;
};
GeluDerivatives gelu_derivatives(double x) {
  const double k = std::sqrt(2.0 / M_PI), t = std::tanh(k * (x + 0.044715 * x * x * x));
  const double u1 = k * (1.0 + 3 * 0.044715 * x * x), u2 = k * 6 * 0.044715 * x;
  const double t1 = 1.0 - t * t;
  return {0.5 * (1.0 + t) + 0.5 * x * t1 * u1,
          t1 * u1 + 0.5 * x * (t1 * u2 - 2.0 * t * t1 * u1 * u1)};
}

TEST(Dual, Gelu) {
  for (double scale : {1.0, 9.0, kLargeArguments}) {
    OpCase c;
    c.name = "scale " + std::to_string(scale);
    c.op = Op::kGelu;
    c.inputs = {input({kCount}, noise(kCount, 1, scale))};
    c.outputs = {output({kCount})};
    c.in_place = {{0, 0}};
    const auto tangents = [](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values dy = d[0];
      for (size_t i = 0; i < dy.size(); ++i) dy[i] *= gelu_derivatives(in[0][i]).first;
      return std::vector<Values>{dy};
    };
    expect_correct(dual_case(c, tangents));
    if (scale < kLargeArguments) expect_near_differences(dual_case(c, tangents));
  }
}

TEST(Dual, GeluGrad) {
  for (double scale : {1.0, 9.0, kLargeArguments}) {
    OpCase c;
    c.name = "scale " + std::to_string(scale);
    c.op = Op::kGeluGrad;
    c.inputs = {input({kCount}, noise(kCount, 1)), input({kCount}, noise(kCount, 2, scale))};
    c.outputs = {output({kCount})};
    c.in_place = {{0, 0}, {0, 1}};
    // Around x = 5 the rounding of 1 - s in FP32, 3e-8, is multiplied with x (2u)'^2 = 240.
    c.tolerance_f32 = 3e-5;
    const auto tangents = [](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values ddx(in[0].size());
      for (size_t i = 0; i < ddx.size(); ++i) {
        const GeluDerivatives gelu = gelu_derivatives(in[1][i]);
        ddx[i] = d[0][i] * gelu.first + in[0][i] * gelu.second * d[1][i];
      }
      return std::vector<Values>{ddx};
    };
    expect_correct(dual_case(c, tangents));
    if (scale < kLargeArguments) expect_near_differences(dual_case(c, tangents));
  }
}

KernelCall dual_call(const Attributes& attributes, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs) {
  return {.attributes = attributes,
          .inputs = inputs,
          .outputs = outputs,
          .workspace = {},
          .dual = true};
}

TEST(Dual, OtherOpsRefuse) {
  MEMWALL_CPU_ONLY("calls its kernels");
  for (Op op : {Op::kAdd, Op::kGemm, Op::kDropout, Op::kBiasGelu, Op::kAdamW}) {
    try {
      kernel_of(op)(dual_call(NoAttributes{}, {}, {}));
      ADD_FAILURE() << op_name(op) << " ran on dual numbers";
    } catch (const InternalError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(op_name(op))) << error.what();
    }
  }
}

// A call that lacks tangents, or has them in another type, is a defect of its caller.
TEST(Dual, TangentsMustBeThere) {
  MEMWALL_CPU_ONLY("calls its kernels");
  std::vector<double> memory(8);
  const Tensor x{memory.data(), DType::kF32, {8}}, wide{memory.data(), DType::kF64, {8}};
  const std::vector<Tensor> one = {x}, two = {x, x}, mixed = {x, wide};
  const Attributes none = NoAttributes{};
  EXPECT_NO_THROW(kernel_of(Op::kGelu)(dual_call(none, two, two)));
  EXPECT_THROW(kernel_of(Op::kGelu)(dual_call(none, one, two)), InternalError);
  EXPECT_THROW(kernel_of(Op::kGelu)(dual_call(none, two, one)), InternalError);
  EXPECT_THROW(kernel_of(Op::kGelu)(dual_call(none, mixed, two)), InternalError);
  EXPECT_THROW(kernel_of(Op::kGelu)(dual_call(none, two, mixed)), InternalError);
}

}  // namespace
}  // namespace memwall::test
