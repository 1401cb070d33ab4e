// What the launches of a GPU have bounds for, and the order of its sums.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "runtime/base/scalars.h"
#include "runtime/base/workspace.h"
#include "tests/kernels/op_case.h"
#include "tests/kernels/op_device.h"
#include "tests/kernels/team_order.h"

namespace memwall::test {
namespace {

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

// SGD on `tensors` small tensors with padding behind each: twice as many runs.
OpCase many_runs(Unit& unit, int64_t tensors) {
  constexpr int64_t kStep = 64, kCount = 50;
  constexpr double kRate = 0.01, kDecay = 0.1;
  unit.padded = tensors * kStep;
  for (int64_t i = 0; i < tensors; ++i) {
    unit.segments.push_back({.name = "t", .shape = {kCount}, .offset = i * kStep, .count = kCount});
    unit.segments.back().decay = i % 3 != 0;
  }
  OpCase c;
  c.name = std::to_string(tensors) + " tensors";
  c.op = Op::kSgd;
  UnitAttributes a;
  a.weight_decay = kDecay;
  c.attributes = a;
  c.unit = &unit;
  Values scalars(kScalarCount, 0.0);
  scalars[static_cast<size_t>(Scalar::kLearningRate)] = kRate;
  scalars[static_cast<size_t>(Scalar::kGradScale)] = 1.0;
  c.inputs = {input({unit.padded}, noise(unit.padded, 1), Kind::kStatistic),
              input({unit.padded}, noise(unit.padded, 2)),
              input({kScalarCount}, scalars, Kind::kF64)};
  c.outputs = {output({unit.padded}, Kind::kStatistic)};
  c.tolerance_f32 = 1e-6, c.tolerance_f64 = 1e-14;
  c.reference = [](const std::vector<Values>& in) {
    Values p = in[0];
    for (size_t i = 0; i < p.size(); ++i) {
      const bool decays = i % kStep < kCount && i / kStep % 3 != 0;
      p[i] -= kRate * (in[1][i] + (decays ? kDecay * in[0][i] : 0.0));
    }
    return std::vector<Values>{p};
  };
  return c;
}

// A launch of a GPU takes a few dozen runs.
TEST(Launches, OfAnyNumberOfRuns) {
  for (int64_t tensors = 1; on_gpu() && tensors <= 40; ++tensors) {
    Unit unit;
    OpCase c = many_runs(unit, tensors);
    c.dtypes = {DType::kF32};
    expect_correct(c);
  }
  Unit unit;
  expect_correct(many_runs(unit, 100));
}

TEST(Launches, OfManyBlocksOfRows) {
  constexpr int64_t kBatch = 3, kRows = 70 * kRowBlock + 5, kWidth = 5;
  OpCase c;
  c.op = Op::kColumnSum;
  RowsAttributes a;
  a.batch = kBatch, a.rows = kRows, a.width = a.stride = kWidth;
  c.attributes = a;
  c.inputs = {input({kBatch, kRows, kWidth}, noise(kBatch * kRows * kWidth, 1))};
  c.outputs = {output({kBatch, kWidth})};
  c.reference = [](const std::vector<Values>& in) {
    Values sums(at(kBatch * kWidth), 0.0);
    for (int64_t i = 0; i < kBatch * kRows * kWidth; ++i) {
      sums[at(i / (kRows * kWidth) * kWidth + i % kWidth)] += in[0][at(i)];
    }
    return std::vector<Values>{sums};
  };
  for (bool accumulate : {false, true}) {
    c.accumulate = accumulate;
    expect_correct(c);
  }
}

TEST(Launches, OfNothing) {
  OpCase c;
  c.name = "nothing";
  c.op = Op::kCopy;
  c.inputs = {input({0}, {})};
  c.outputs = {output({0})};
  c.reference = [](const auto&) { return std::vector<Values>{{}}; };
  expect_correct(c);

  // No token: the gradient of the table is zero, or what it was.
  constexpr int64_t kTable = 7, kWidth = 20;
  RowsAttributes a;
  a.rows = 0, a.width = a.stride = kWidth;
  c.op = Op::kEmbeddingGrad;
  c.attributes = a;
  c.inputs = {input({0}, {}, Kind::kI32), input({0, kWidth}, {})};
  c.outputs = {output({kTable, kWidth})};
  c.workspace_bytes = embedding_grad_workspace_bytes(kTable, 0);
  c.reference = [](const auto&) { return std::vector<Values>{Values(at(kTable * kWidth), 0.0)}; };
  for (bool accumulate : {false, true}) {
    c.accumulate = accumulate;
    expect_correct(c);
  }
}

template <class T>
std::vector<T> values_of(const std::vector<std::byte>& bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

// The sum of a block of a whole sum, by 256 threads.
TEST(Sums, OfABlockOfThreadsAreInItsOrder) {
  if (!on_gpu()) GTEST_SKIP() << "of GPUs";
  for (int64_t count : {1025, 3001, 4095, 4096}) {
    const Values x = noise(count, 4);
    OpCase c;
    c.op = Op::kSum;
    c.inputs = {input({count}, x)};
    c.outputs = {output({1}, Kind::kF64)};
    EXPECT_EQ(values_of<double>(run(c, DType::kF64, 0, 1, {})[0])[0], sum_in_team_order(x, 256))
        << count << " elements";
  }
}

// The mean of a row, by a warp: its width is a power of two, so that the division is exact.
TEST(Sums, OfAWarpAreInItsOrder) {
  if (!on_gpu()) GTEST_SKIP() << "of GPUs";
  for (int64_t width : {2, 16, 128, 256, 1024}) {
    std::vector<float> row;
    for (double x : noise(width, 5)) row.push_back(static_cast<float>(x));
    OpCase c;
    c.op = Op::kLayerNorm;
    RowsAttributes a;
    a.rows = 1, a.width = a.stride = width, a.epsilon = 1e-5;
    c.attributes = a;
    c.inputs = {input({1, width}, Values(row.begin(), row.end())), input({width}, noise(width, 6)),
                input({width}, noise(width, 7))};
    c.outputs = {output({1, width}), output({1}, Kind::kStatistic), output({1}, Kind::kStatistic)};
    EXPECT_EQ(values_of<float>(run(c, DType::kF32, 0, 1, {})[1])[0],
              sum_in_team_order(row, 32) / static_cast<float>(width))
        << width << " elements";
  }
}

}  // namespace
}  // namespace memwall::test
