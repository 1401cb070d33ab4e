#include "runtime/cli/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "runtime/base/error.h"

namespace memwall {
namespace {

const std::vector<double> kLogits = {1.0, 3.0, 2.0, 3.0, -1.0};

std::map<int32_t, int> counts(const SamplingSettings& settings, int draws) {
  std::map<int32_t, int> out;
  for (int i = 0; i < draws; ++i) ++out[sample_token(kLogits, settings, i)];
  return out;
}

TEST(Sampling, TemperatureZeroTakesTheLowestOfTheLikeliest) {
  for (int64_t draw = 0; draw < 20; ++draw) {
    EXPECT_EQ(sample_token(kLogits, {.temperature = 0.0}, draw), 1);
  }
}

TEST(Sampling, FrequenciesAreTheSoftmax) {
  constexpr int kDraws = 20000;
  for (const double temperature : {0.7, 1.0, 2.0}) {
    double sum = 0.0;
    for (const double logit : kLogits) sum += std::exp(logit / temperature);
    auto found = counts({.temperature = temperature}, kDraws);
    for (size_t token = 0; token < kLogits.size(); ++token) {
      const double p = std::exp(kLogits[token] / temperature) / sum;
      const double deviation = std::sqrt(p * (1 - p) / kDraws);
      EXPECT_NEAR(found[static_cast<int32_t>(token)] / double{kDraws}, p, 5 * deviation) << token;
    }
  }
}

TEST(Sampling, TopKKeepsTheLikeliest) {
  const auto found = counts({.temperature = 5.0, .top_k = 3}, 500);
  EXPECT_EQ(found.size(), 3u);
  EXPECT_FALSE(found.contains(0));
  EXPECT_FALSE(found.contains(4));
  EXPECT_EQ(counts({.temperature = 5.0, .top_k = 1}, 50).size(), 1u);
  EXPECT_EQ(counts({.temperature = 5.0, .top_k = 100}, 2000).size(), kLogits.size());
}

TEST(Sampling, TopPKeepsTheFewestThatReachIt) {
  // At temperature 1 the two likeliest hold 0.397 each, the third 0.146.
  EXPECT_EQ(counts({.temperature = 1.0, .top_p = 0.3}, 300).size(), 1u);
  EXPECT_EQ(counts({.temperature = 1.0, .top_p = 0.7}, 300).size(), 2u);
  EXPECT_EQ(counts({.temperature = 1.0, .top_p = 0.9}, 300).size(), 3u);
  EXPECT_EQ(counts({.temperature = 1.0, .top_p = 1e-9}, 300).size(), 1u);
  // Of what top_k leaves: 0.5 each.
  EXPECT_EQ(counts({.temperature = 1.0, .top_k = 2, .top_p = 0.45}, 300).size(), 1u);
}

TEST(Sampling, DependsOnSeedAndDrawOnly) {
  const auto text = [](uint64_t seed) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < 40; ++i) tokens.push_back(sample_token(kLogits, {.seed = seed}, i));
    return tokens;
  };
  EXPECT_EQ(text(1), text(1));
  EXPECT_NE(text(1), text(2));
}

TEST(Sampling, LargeLogitsDoNotOverflow) {
  const std::vector<double> logits = {-1e300, 1e300, 5.0};
  EXPECT_EQ(sample_token(logits, {.temperature = 1e-3}, 0), 1);
}

TEST(Sampling, RefusesLogitsThatAreNotFinite) {
  const std::vector<double> logits = {0.0, std::numeric_limits<double>::quiet_NaN()};
  EXPECT_THROW(sample_token(logits, {}, 0), Error);
}

TEST(Sampling, ChecksItsSettings) {
  EXPECT_NO_THROW(check_sampling({}));
  EXPECT_THROW(check_sampling({.temperature = -0.1}), InputError);
  EXPECT_THROW(check_sampling({.temperature = std::nan("")}), InputError);
  EXPECT_THROW(check_sampling({.top_k = -1}), InputError);
  EXPECT_THROW(check_sampling({.top_p = 0.0}), InputError);
  EXPECT_THROW(check_sampling({.top_p = 1.5}), InputError);
}

}  // namespace
}  // namespace memwall
