#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/rng.h"
#include "runtime/base/scalars.h"
#include "runtime/base/workspace.h"
#include "tests/kernels/op_case.h"

namespace memwall::test {
namespace {

constexpr int64_t kCount = 20011;  // several tiles, no multiple of anything

Values map(const Values& x, const std::function<double(double)>& f) {
  Values out;
  for (double v : x) out.push_back(f(v));
  return out;
}

OpCase unary(const std::string& name, Op op, double scale, const std::function<double(double)>& f) {
  OpCase c;
  c.name = name;
  c.op = op;
  c.inputs = {input({kCount}, noise(kCount, 1, scale))};
  c.outputs = {output({kCount})};
  c.in_place = {{0, 0}};
  c.reference = [f](const std::vector<Values>& in) { return std::vector<Values>{map(in[0], f)}; };
  return c;
}

double gelu_value(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

TEST(Elementwise, Fill) {
  OpCase c;
  c.name = "value";
  c.op = Op::kFill;
  c.attributes = FillAttributes{1.25, -1};
  c.outputs = {output({kCount})};
  c.reference = [](const auto&) { return std::vector<Values>{Values(kCount, 1.25)}; };
  expect_correct(c);

  c.name = "scalar";
  c.attributes = FillAttributes{1.25, static_cast<int64_t>(Scalar::kLossScale)};
  c.inputs = {input({kScalarCount}, noise(kScalarCount, 3), Kind::kF64)};
  c.reference = [](const std::vector<Values>& in) {
    const double scale = in[0][static_cast<size_t>(Scalar::kLossScale)];
    return std::vector<Values>{Values(kCount, 1.25 * scale)};
  };
  expect_correct(c);
}

TEST(Elementwise, Copy) {
  OpCase c = unary("same type", Op::kCopy, 1.0, [](double x) { return x; });
  c.tolerance_f32 = c.tolerance_f64 = 0.0;
  c.also_wide = true;
  expect_correct(c);
  c.name = "added";
  c.in_place.clear();
  c.accumulate = true;
  c.tolerance_f32 = 1e-6, c.tolerance_f64 = 1e-15;
  expect_correct(c);
  for (Kind kind : {Kind::kF64, Kind::kValue}) {
    c.name = kind == Kind::kF64 ? "from f64" : "to f64";
    c.also_wide = false;
    c.dtypes = {DType::kF32, DType::kF64};
    if (kind == Kind::kValue) c.dtypes.insert(c.dtypes.end(), {DType::kF16, DType::kBF16});
    c.inputs[0].kind = kind;
    c.outputs[0].kind = kind == Kind::kF64 ? Kind::kValue : Kind::kF64;
    for (bool accumulate : {false, true}) {
      c.accumulate = accumulate;
      expect_correct(c);
    }
  }
}

TEST(Elementwise, Add) {
  OpCase c = unary("", Op::kAdd, 1.0, nullptr);
  c.inputs.push_back(input({kCount}, noise(kCount, 2)));
  c.in_place = {{0, 0}, {0, 1}};
  c.reference = [](const std::vector<Values>& in) {
    Values sum = in[0];
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += in[1][i];
    return std::vector<Values>{sum};
  };
  c.tolerance_f32 = 1e-7, c.tolerance_f64 = 0.0;
  c.also_wide = true;
  expect_correct(c);
  c.name = "a sum in FP32 and one more";
  c.also_wide = false;
  c.dtypes = {DType::kF16, DType::kBF16};
  c.inputs[0].kind = c.outputs[0].kind = Kind::kStatistic;
  c.in_place = {{0, 0}};
  expect_correct(c);
}

// A master copy becomes the parameter.
TEST(Elementwise, CopyRoundsFp32To16Bits) {
  OpCase c = unary("round", Op::kCopy, 3.0, [](double x) { return x; });
  c.inputs[0].kind = Kind::kStatistic;
  c.dtypes = {DType::kF16, DType::kBF16};
  c.tolerance_f32 = 0.0;
  c.in_place.clear();
  for (bool accumulate : {false, true}) {
    c.accumulate = accumulate;
    c.tolerance_f32 = accumulate ? 1e-7 : 0.0;
    expect_correct(c);
  }
}

TEST(Elementwise, Bias) {
  for (int64_t width : {5, 301, 9001}) {
    OpCase c;
    c.name = "width " + std::to_string(width);
    c.op = Op::kBias;
    RowsAttributes a;
    a.batch = 2, a.rows = 3, a.width = a.stride = width;
    c.attributes = a;
    c.inputs = {input({2, 3, width}, noise(6 * width, 1)), input({2, width}, noise(2 * width, 2))};
    c.outputs = {output({2, 3, width})};
    c.in_place = {{0, 0}};
    c.reference = [width](const std::vector<Values>& in) {
      Values y = in[0];
      for (int64_t i = 0; i < 6 * width; ++i) {
        y[static_cast<size_t>(i)] +=
            in[1][static_cast<size_t>(i / (3 * width) * width + i % width)];
      }
      return std::vector<Values>{y};
    };
    expect_correct(c);
  }
}

TEST(Elementwise, Gelu) {
  expect_correct(unary("", Op::kGelu, 9.0, gelu_value));
}

TEST(Elementwise, GeluOfLargeArguments) {
  expect_correct(unary("large", Op::kGelu, 1e4, gelu_value));
}

TEST(Elementwise, GeluGrad) {
  OpCase c = unary("", Op::kGeluGrad, 1.0, nullptr);
  c.inputs.push_back(input({kCount}, noise(kCount, 2, 9.0)));
  c.in_place = {{0, 0}, {0, 1}};
  c.reference = [](const std::vector<Values>& in) {
    Values dx(in[0].size());
    for (size_t i = 0; i < dx.size(); ++i) {
      const double x = in[1][i], k = std::sqrt(2.0 / M_PI);
      const double t = std::tanh(k * (x + 0.044715 * x * x * x));
      const double slope = k * (1.0 + 3.0 * 0.044715 * x * x);
      dx[i] = in[0][i] * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope);
    }
    return std::vector<Values>{dx};
  };
  expect_correct(c);
}

OpCase dropout_case(int64_t width, int64_t iteration) {
  DropoutAttributes a;
  a.rate = 0.3, a.seed = 1234567890123, a.site = 17;
  a.samples = 2, a.heads = 3, a.rows = 7, a.width = width;
  a.total_rows = 21, a.period = 3;
  const int64_t rows = a.samples * a.heads * a.rows;
  OpCase c;
  c.name = "width " + std::to_string(width);
  c.op = Op::kDropout;
  c.attributes = a;
  c.iteration = iteration;
  c.inputs = {input({a.samples, a.heads, a.rows, width}, noise(rows * width, 1)),
              input({a.samples}, {123456789012.0, 5.0}, Kind::kI64)};
  c.outputs = {output({a.samples, a.heads, a.rows, width})};
  c.in_place = {{0, 0}};
  c.reference = [a, iteration](const std::vector<Values>& in) {
    Values y = in[0];
    for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
      const int64_t column = i % a.width, row = i / a.width % a.rows;
      const int64_t head = i / a.width / a.rows % a.heads;
      const int64_t sample = i / a.width / a.rows / a.heads;
      const auto index = static_cast<int64_t>(in[1][static_cast<size_t>(sample)]);
      const int64_t e =
          ((index * a.heads + head) * a.total_rows + iteration % a.period * a.rows + row) *
              a.width +
          column;
      const uint32_t bits = random_bits(static_cast<uint64_t>(a.seed),
                                        static_cast<uint32_t>(a.site), static_cast<uint64_t>(e));
      const bool kept = static_cast<double>(bits) >= a.rate * 0x1p32;
      y[static_cast<size_t>(i)] *= kept ? 1.0 / (1.0 - a.rate) : 0.0;
    }
    return std::vector<Values>{y};
  };
  return c;
}

TEST(Elementwise, Dropout) {
  for (int64_t width : {1, 3, 61, 64, 402, 768}) {
    OpCase c = dropout_case(width, 4);
    c.also_wide = true;
    expect_correct(c);
    c.accumulate = true;
    c.in_place.clear();
    expect_correct(c);
  }
}

// The share of kept elements is that of the rate within five standard deviations, and chunks of a
// tensor draw what the whole draws.
TEST(Elementwise, DropoutRateAndChunks) {
  DropoutAttributes a;
  a.rate = 0.1, a.seed = 5, a.site = 1;
  a.rows = a.total_rows = 512, a.width = 1000;
  const int64_t count = a.rows * a.width;
  OpCase c;
  c.op = Op::kDropout;
  c.attributes = a;
  c.inputs = {input({1, 1, a.rows, a.width}, Values(static_cast<size_t>(count), 1.0)),
              input({1}, {3.0}, Kind::kI64)};
  c.outputs = {output({1, 1, a.rows, a.width})};
  const std::vector<std::byte> whole = run(c, DType::kF32, 0, 1, {})[0];
  const auto* values = reinterpret_cast<const float*>(whole.data());
  const auto kept = std::count_if(values, values + count, [](float v) { return v != 0.0f; });
  const double n = static_cast<double>(count);
  EXPECT_NEAR(static_cast<double>(kept), 0.9 * n, 5.0 * std::sqrt(0.09 * n));

  a.rows = 128, a.period = 4;
  c.attributes = a;
  c.inputs[0] = input({1, 1, a.rows, a.width}, Values(static_cast<size_t>(count / 4), 1.0));
  c.outputs = {output({1, 1, a.rows, a.width})};
  for (c.iteration = 0; c.iteration < 4; ++c.iteration) {
    const std::vector<std::byte> chunk = run(c, DType::kF32, 0, 1, {})[0];
    EXPECT_TRUE(std::equal(chunk.begin(), chunk.end(),
                           whole.begin() + c.iteration * static_cast<int64_t>(chunk.size())));
  }
}

TEST(Elementwise, Sum) {
  for (int64_t count : {1, 4095, 4096, 50001}) {
    OpCase c;
    c.name = std::to_string(count);
    c.op = Op::kSum;
    c.inputs = {input({count}, noise(count, 1))};
    c.outputs = {output({1}, Kind::kF64)};
    c.tolerance_f32 = c.tolerance_f64 = 1e-12;
    c.reference = [](const std::vector<Values>& in) {
      long double total = 0;
      for (double v : in[0]) total += v;
      return std::vector<Values>{{static_cast<double>(total)}};
    };
    for (bool accumulate : {false, true}) {
      c.accumulate = accumulate;
      for (int64_t bytes : {int64_t{0}, sum_workspace_bytes(count, 1)}) {
        c.workspace_bytes = bytes;
        expect_correct(c);
      }
    }
  }
}

TEST(Elementwise, SumSquares) {
  constexpr int64_t kParts = 3, kPart = 9000;
  OpCase c;
  c.op = Op::kSumSquares;
  UnitAttributes a;
  a.parts = kParts;
  c.attributes = a;
  c.inputs = {input({kParts * kPart}, noise(kParts * kPart, 1))};
  c.outputs = {output({kParts}, Kind::kF64)};
  c.tolerance_f32 = c.tolerance_f64 = 1e-12;
  c.workspace_bytes = sum_workspace_bytes(kParts * kPart, kParts);
  c.reference = [](const std::vector<Values>& in) {
    Values sums(kParts, 0.0);
    for (size_t i = 0; i < in[0].size(); ++i) sums[i / kPart] += in[0][i] * in[0][i];
    return std::vector<Values>{sums};
  };
  expect_correct(c);
  const auto whole = run(c, DType::kF32, 0, 1, {})[0];

  // A shard alone gives the bits of its part of the whole.
  for (int64_t part = 0; part < kParts; ++part) {
    OpCase shard = c;
    a.parts = 1;
    shard.attributes = a;
    const auto begin = c.inputs[0].values.begin() + part * kPart;
    shard.inputs = {input({kPart}, Values(begin, begin + kPart))};
    shard.outputs = {output({1}, Kind::kF64)};
    const auto alone = run(shard, DType::kF32, 5, 2, {})[0];
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), whole.begin() + part * 8));
  }
  c.accumulate = true;
  expect_correct(c);
}

}  // namespace
}  // namespace memwall::test
