// Sums in rank order against the same sums written the plain way.
#include "comm/rank_sum.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace memwall {
namespace {

template <class T>
std::vector<const void*> pointers(const std::vector<std::vector<T>>& terms) {
  std::vector<const void*> out;
  for (const auto& term : terms) out.push_back(term.data());
  return out;
}

float bf16_value(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// Round to nearest even by searching both neighbours.
uint16_t nearest_bf16(float x) {
  const auto down = static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);  // towards zero
  const auto up = static_cast<uint16_t>(down + 1);
  const double below = std::abs(double{x} - bf16_value(down));
  const double above = std::abs(double{bf16_value(up)} - x);
  if (below != above) return below < above ? down : up;
  return down % 2 == 0 ? down : up;
}

TEST(RankSum, Float32RunsInRankOrder) {
  // (1 + -1e8) + 1e8 = 0 in FP32; any other order gives 1.
  const std::vector<std::vector<float>> terms = {{1.0f}, {-1e8f}, {1e8f}};
  float out = -1.0f;
  sum_in_order(pointers(terms), &out, 1, DType::kF32);
  EXPECT_EQ(out, 0.0f);
}

TEST(RankSum, Float64KeepsItsPrecision) {
  const std::vector<std::vector<double>> terms = {{1.0}, {0x1p-50}};
  double out = 0.0;
  sum_in_order(pointers(terms), &out, 1, DType::kF64);
  EXPECT_EQ(out, 1.0 + 0x1p-50);
}

TEST(RankSum, Float16IsRoundedOnceAtTheEnd) {
  // 2048 + 1 + 1: rounded after each addition it stays 2048, in FP32 it is 2050.
  const std::vector<std::vector<_Float16>> terms = {{2048}, {1}, {1}};
  _Float16 out = 0;
  sum_in_order(pointers(terms), &out, 1, DType::kF16);
  EXPECT_EQ(static_cast<float>(out), 2050.0f);
}

TEST(RankSum, Float16PassesTheLargestPartialSum) {
  // 60000 + 60000 is infinite in FP16, but only the end is rounded.
  const std::vector<std::vector<_Float16>> terms = {{static_cast<_Float16>(60000.0f)},
                                                    {static_cast<_Float16>(60000.0f)},
                                                    {static_cast<_Float16>(-60000.0f)}};
  _Float16 out = 0;
  sum_in_order(pointers(terms), &out, 1, DType::kF16);
  EXPECT_EQ(static_cast<float>(out), static_cast<float>(static_cast<_Float16>(60000.0f)));
}

TEST(RankSum, Bfloat16RoundsToNearestEven) {
  std::mt19937 draw(7);
  std::vector<std::vector<uint16_t>> terms(3, std::vector<uint16_t>(5000));
  for (auto& term : terms) {
    for (uint16_t& x : term) {  // finite, exponents 2^-16 ... 2^15, both signs
      x = static_cast<uint16_t>((draw() % 2 << 15) | ((111 + draw() % 32) << 7) | draw() % 128);
    }
  }
  terms[0][0] = 0x3f80, terms[1][0] = 0x3b80, terms[2][0] = 0x0000;  // 1 + 2^-8: tie, to even
  terms[0][1] = 0x3f81, terms[1][1] = 0x3b80, terms[2][1] = 0x0000;  // ... to even, upwards
  std::vector<uint16_t> out(5000);
  sum_in_order(pointers(terms), out.data(), 5000, DType::kBF16);
  EXPECT_EQ(out[0], 0x3f80);
  EXPECT_EQ(out[1], 0x3f82);
  for (size_t i = 0; i < out.size(); ++i) {
    const float sum = (bf16_value(terms[0][i]) + bf16_value(terms[1][i])) + bf16_value(terms[2][i]);
    ASSERT_EQ(out[i], nearest_bf16(sum)) << i;
  }
}

TEST(RankSum, OverflowAndNanSurviveNarrowing) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<uint16_t>> terms = {{0x7f7f, 0x7f80, 0x7f81}, {0x7f7f, 0xff80, 0}};
  uint16_t out[3];
  sum_in_order(pointers(terms), out, 3, DType::kBF16);
  EXPECT_EQ(bf16_value(out[0]), kInfinity);
  EXPECT_TRUE(std::isnan(bf16_value(out[1])));
  EXPECT_TRUE(std::isnan(bf16_value(out[2])));

  const auto largest = static_cast<_Float16>(65504.0f);
  const std::vector<std::vector<_Float16>> halves = {{largest}, {largest}};
  _Float16 half = 0;
  sum_in_order(pointers(halves), &half, 1, DType::kF16);
  EXPECT_EQ(static_cast<float>(half), kInfinity);
}

TEST(RankSum, InPlaceAndAtAnyOffset) {
  constexpr size_t kCount = 3001;  // several tiles and a tail
  std::mt19937 draw(3);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> terms(3, std::vector<float>(kCount + 16));
  for (auto& term : terms) {
    for (float& x : term) x = normal(draw);
  }
  for (size_t offset = 0; offset < 16; ++offset) {
    for (size_t own = 0; own < 3; ++own) {
      auto work = terms;
      std::vector<const void*> from;
      for (const auto& term : work) from.push_back(term.data() + offset);
      sum_in_order(from, work[own].data() + offset, kCount, DType::kF32);
      for (size_t i = offset; i < kCount + offset; ++i) {
        ASSERT_EQ(work[own][i], (terms[0][i] + terms[1][i]) + terms[2][i]);
      }
      EXPECT_EQ(work[own][kCount + offset - 1 + (offset < 15 ? 1 : 0)],
                offset < 15 ? terms[own][kCount + offset] : work[own][kCount + offset - 1]);
    }
  }
}

TEST(RankSum, IntegersAreRefused) {
  int64_t value = 1;
  const void* terms[] = {&value};
  EXPECT_THROW(sum_in_order(terms, &value, 1, DType::kI64), InternalError);
}

}  // namespace
}  // namespace memwall
