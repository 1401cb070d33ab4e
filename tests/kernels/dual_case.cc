#include "tests/kernels/dual_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace memwall::test {
namespace {

Values f64_results(const OpCase& c, size_t output) {
  const auto bytes = run(c, DType::kF64, 0, 1, {})[output];
  Values out(bytes.size() / sizeof(double));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

}  // namespace

OpCase dual_case(const OpCase& plain, const Tangents& tangents) {
  OpCase c = plain;
  c.dual = true;
  uint32_t stream = 100;
  for (const Data& in : plain.inputs) {
    if (!has_tangent(in)) continue;
    Data tangent = input(in.shape, noise(in.shape.elements(), ++stream), in.kind);
    for (size_t i = 0; i < in.values.size(); ++i) {
      if (std::isnan(in.values[i])) tangent.values[i] = in.values[i];
    }
    c.inputs.push_back(tangent);
  }
  for (const Data& out : plain.outputs) {
    c.outputs.push_back({out.kind, out.shape, noise(out.shape.elements(), ++stream, 3.0)});
  }
  // Columns that nobody may write keep what lies there, in place what the input holds.
  for (const auto& [o, i] : plain.in_place) {
    if (o != 0 || i != 0) continue;
    c.outputs[plain.outputs.size()].values = c.inputs[plain.inputs.size()].values;
  }
  c.reference = [tangents, inputs = plain.inputs](const std::vector<Values>& all) {
    const auto values_end = all.begin() + static_cast<std::ptrdiff_t>(inputs.size());
    std::vector<Values> d;
    auto next = values_end;
    for (const Data& in : inputs) d.push_back(has_tangent(in) ? *next++ : Values{});
    return tangents({all.begin(), values_end}, d);
  };
  return c;
}

void expect_near_differences(const OpCase& dual) {
  constexpr double kStep = 1e-5;
  const auto shifted = [&](double step) {
    OpCase c = plain_case(dual);
    size_t tangent = c.inputs.size();
    for (Data& in : c.inputs) {
      if (!has_tangent(in)) continue;
      const Values& d = dual.inputs[tangent++].values;
      for (size_t i = 0; i < d.size(); ++i) in.values[i] += step * d[i];
    }
    return c;
  };
  const OpCase above = shifted(kStep), below = shifted(-kStep);
  const size_t results = above.outputs.size();
  std::vector<Values> all;
  for (const Data& in : dual.inputs) all.push_back(in.values);
  const std::vector<Values> expected = dual.reference(all);
  for (size_t o = 0; o < results; ++o) {
    const Values high = f64_results(above, o), low = f64_results(below, o);
    const Values tangent = f64_results(dual, results + o);
    double largest = 0.0, error = 0.0;
    for (size_t i = 0; i < tangent.size(); ++i) {
      if (std::isnan(expected[o][i])) continue;  // left as it was
      largest = std::max(largest, std::abs(tangent[i]));
      const double off = std::abs((high[i] - low[i]) / (2 * kStep) - tangent[i]);
      if (!(off <= error)) error = off;  // also where it is not a number
    }
    EXPECT_LE(error, 1e-7 * largest) << op_name(dual.op) << " " << dual.name << " output " << o;
  }
}

void expect_dual_correct(const OpCase& plain, const Tangents& tangents) {
  const OpCase c = dual_case(plain, tangents);
  expect_correct(c);
  expect_near_differences(c);
}

void expect_dual_correct_and_adding(OpCase plain, const Tangents& tangents) {
  expect_dual_correct(plain, tangents);
  plain.in_place.clear();
  plain.accumulate = true;
  expect_correct(dual_case(plain, tangents));
}

RowsAttributes rows_attributes(int64_t batch, int64_t rows, int64_t width, int64_t stride) {
  RowsAttributes a;
  a.batch = batch, a.rows = rows, a.width = width, a.stride = stride > 0 ? stride : width;
  return a;
}

}  // namespace memwall::test
