// Estimates of the trace, by numbers worked out by hand.
#include "runtime/train/curvature_statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace memwall::test {
namespace {

// Mean 5; squared distances 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32, over 7, over 8.
TEST(CurvatureStatistics, MeanAndStandardError) {
  const std::vector<double> samples = {2, 4, 4, 4, 5, 5, 7, 9};
  const Estimate e = estimate_of(samples);
  EXPECT_DOUBLE_EQ(e.mean, 5.0);
  EXPECT_DOUBLE_EQ(e.standard_error, std::sqrt(32.0 / 7.0 / 8.0));
}

TEST(CurvatureStatistics, OneSampleHasNoError) {
  const std::vector<double> one = {-3.5};
  EXPECT_EQ(estimate_of(one).mean, -3.5);
  EXPECT_TRUE(std::isnan(estimate_of(one).standard_error));
}

// The parts of a probe depend on each other: here they vary, and their sum does not.
TEST(CurvatureStatistics, TheWholeIsEstimatedFromSums) {
  const TraceStatistics s = trace_statistics({{1, 9}, {3, 7}, {5, 5}});
  ASSERT_EQ(s.per_tensor.size(), 2u);
  EXPECT_DOUBLE_EQ(s.per_tensor[0].mean, 3.0);
  EXPECT_DOUBLE_EQ(s.per_tensor[0].standard_error, std::sqrt(8.0 / 2.0 / 3.0));
  EXPECT_DOUBLE_EQ(s.per_tensor[1].mean, 7.0);
  EXPECT_DOUBLE_EQ(s.whole.mean, 10.0);
  EXPECT_DOUBLE_EQ(s.whole.standard_error, 0.0);
}

// Two units of 12 and 8 elements; tensors at [0, 5), [6, 11) and [0, 7), the rest padding.
std::vector<Unit> two_units() {
  std::vector<Unit> units(2);
  units[0].padded = 12;
  units[1].padded = 8;
  units[0].segments.resize(2);
  units[0].segments[0].name = "a";
  units[0].segments[0].count = 5;
  units[0].segments[1].name = "b";
  units[0].segments[1].offset = 6;
  units[0].segments[1].count = 5;
  units[1].segments.resize(1);
  units[1].segments[0].name = "c";
  units[1].segments[0].count = 7;
  return units;
}

TEST(CurvatureStatistics, DotsOfTensors) {
  const std::vector<Unit> units = two_units();
  EXPECT_EQ(tensor_names(units), (std::vector<std::string>{"a", "b", "c"}));
  std::vector<double> a(20), b(20, 1.0);
  std::iota(a.begin(), a.end(), 0.0);
  // 0 + ... + 4, 6 + ... + 10, 12 + ... + 18
  EXPECT_EQ(tensor_dots(units, 1, 0, a, b), (std::vector<double>{10, 40, 105}));
  b[6] = -1.0;  // the first of "b"
  b[5] = 99.0;  // padding
  EXPECT_EQ(tensor_dots(units, 1, 0, a, b), (std::vector<double>{10, 28, 105}));
}

TEST(CurvatureStatistics, PartsAddUpToTheWhole) {
  const std::vector<Unit> units = two_units();
  // Of 4 parts, part 1 holds [3, 6) of the first unit and [2, 4) of the second: with their numbers
  // in the unit as elements, "a" has 3 and 4, "b" nothing, "c" 2 and 3.
  const std::vector<double> part = {3, 4, 5, 2, 3}, ones(5, 1.0);
  EXPECT_EQ(tensor_dots(units, 4, 1, part, ones), (std::vector<double>{7, 0, 5}));
  // Part 3: [9, 12) and [6, 8).
  const std::vector<double> last = {9, 10, 11, 6, 7};
  EXPECT_EQ(tensor_dots(units, 4, 3, last, ones), (std::vector<double>{0, 19, 6}));
}

}  // namespace
}  // namespace memwall::test
