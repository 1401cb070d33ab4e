// Samples are functions of the global index: bijective, uniform, and the same at any rank count.
#include "runtime/data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/data/token_source.h"
#include "tests/data/temporary_folder.h"

namespace memwall {
namespace {

using Ids = std::vector<int32_t>;

// Token i of the source is i, so that a sample shows where it was taken. The part begins at
// `first`.
class SamplerTest : public testing::Test {
 protected:
  TokenRange counting(int64_t size, int64_t first = 0) {
    std::vector<uint16_t> ids(static_cast<size_t>(first + size));
    std::iota(ids.begin(), ids.end(), static_cast<uint16_t>(0));
    const std::vector<std::string> patterns{folder_.write("tokens", bytes_of(ids))};
    auto source = std::make_shared<TokenSource>(
        TokenSource::from_token_files(patterns, {.vocabulary = 65536}));
    return {source, first, size};
  }
  TemporaryFolder folder_;
};

struct Window {
  Ids tokens, targets;
};
Window sample_of(const Sampler& sampler, int64_t index, size_t length) {
  Window window{Ids(length), Ids(length)};
  sampler.fill(index, window.tokens, window.targets);
  return window;
}

std::vector<int64_t> values_of(const Permutation& permutation, int64_t size) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < size; ++i) values.push_back(permutation(i));
  return values;
}

TEST(Permutation, IsABijectionOfEverySize) {
  std::vector<int64_t> sizes(70);
  std::iota(sizes.begin(), sizes.end(), 1);
  for (int64_t size : {255, 256, 257, 1000, 4096, 65537}) sizes.push_back(size);
  for (int64_t size : sizes) {
    for (int64_t epoch : {0, 1, 2}) {
      auto values = values_of(Permutation(size, 1234, epoch), size);
      std::sort(values.begin(), values.end());
      for (int64_t i = 0; i < size; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], i) << size;
    }
  }
}

TEST(Permutation, LargeSizesStayInside) {
  for (int64_t size : {int64_t{1} << 40, (int64_t{1} << 61) + 12345, int64_t{1} << 62}) {
    const Permutation permutation(size, 9, 3);
    for (int64_t i = 0; i < 1000; ++i) {
      const int64_t value = permutation(size - 1 - i);
      ASSERT_GE(value, 0);
      ASSERT_LT(value, size);
    }
  }
  EXPECT_THROW(Permutation(10, 0, 0)(10), InternalError);
  EXPECT_THROW(Permutation(10, 0, 0)(-1), InternalError);
}

TEST(Permutation, ChangesWithSeedAndEpochAndIsNoIdentity) {
  constexpr int64_t kSize = 1000;
  const auto base = values_of(Permutation(kSize, 1, 0), kSize);
  const auto fixed_points = [&](const std::vector<int64_t>& other) {
    int64_t count = 0;
    for (size_t i = 0; i < other.size(); ++i) count += other[i] == base[i];
    return count;
  };
  std::vector<int64_t> identity(kSize);
  std::iota(identity.begin(), identity.end(), 0);
  // Two random permutations agree in one place on average, Poisson: more than 10 is 1 in 10^8.
  EXPECT_LE(fixed_points(identity), 10);
  EXPECT_LE(fixed_points(values_of(Permutation(kSize, 1, 1), kSize)), 10);
  EXPECT_LE(fixed_points(values_of(Permutation(kSize, 2, 0), kSize)), 10);
  EXPECT_LE(fixed_points(values_of(Permutation(kSize, uint64_t{1} << 32 | 1, 0), kSize)), 10);
  EXPECT_EQ(base, values_of(Permutation(kSize, 1, 0), kSize));
}

TEST(Permutation, EveryPlaceIsEquallyLikely) {
  for (int64_t size : {int64_t{3}, int64_t{10}, int64_t{37}}) {
    constexpr int64_t kEpochs = 20000;
    const auto n = static_cast<size_t>(size);
    std::vector<double> counts(n * n, 0.0);  // (index, value)
    for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
      const auto values = values_of(Permutation(size, 5, epoch), size);
      for (size_t i = 0; i < n; ++i) counts[i * n + static_cast<size_t>(values[i])] += 1.0;
    }
    const double expected = static_cast<double>(kEpochs) / static_cast<double>(size);
    double chi2 = 0.0;
    for (double count : counts) chi2 += (count - expected) * (count - expected) / expected;
    const double freedom = static_cast<double>((size - 1) * (size - 1));
    EXPECT_LT(chi2, freedom + 6.0 * std::sqrt(2.0 * freedom)) << size;
  }
}

TEST_F(SamplerTest, ShuffledTakesEveryWindowOnceAnEpoch) {
  constexpr int64_t kLength = 7;
  const TokenRange part = counting(7 * 40 + 5, 100);  // the last 4 tokens are in no window
  const Sampler sampler(part, Sampling::kShuffled, kLength, 42);
  ASSERT_EQ(sampler.windows(), 40);
  std::vector<std::vector<int32_t>> starts(3);
  for (int64_t g = 0; g < 120; ++g) {
    const Window window = sample_of(sampler, g, kLength);
    for (int32_t i = 0; i < kLength; ++i) {
      ASSERT_EQ(window.tokens[static_cast<size_t>(i)], window.tokens[0] + i);
      ASSERT_EQ(window.targets[static_cast<size_t>(i)], window.tokens[0] + i + 1);
    }
    ASSERT_EQ((window.tokens[0] - 100) % kLength, 0);
    starts[static_cast<size_t>(g / 40)].push_back((window.tokens[0] - 100) / kLength);
  }
  EXPECT_NE(starts[0], starts[1]);
  EXPECT_NE(starts[1], starts[2]);
  for (auto& epoch : starts) {
    std::sort(epoch.begin(), epoch.end());
    for (int32_t i = 0; i < 40; ++i) EXPECT_EQ(epoch[static_cast<size_t>(i)], i);
  }
}

TEST_F(SamplerTest, WindowCountIsExact) {
  for (int64_t size : {8, 14, 15, 16, 21, 22}) {
    const Sampler sampler(counting(size), Sampling::kShuffled, 7, 0);
    EXPECT_EQ(sampler.windows(), (size - 1) / 7);
  }
  EXPECT_THROW(Sampler(counting(7), Sampling::kShuffled, 7, 0), InternalError);
}

TEST_F(SamplerTest, RandomOffsetReachesBothEndsEvenly) {
  constexpr int64_t kSize = 60, kLength = 10, kOffsets = kSize - kLength, kDraws = 100000;
  const Sampler sampler(counting(kSize), Sampling::kRandomOffset, kLength, 7);
  std::vector<double> counts(static_cast<size_t>(kOffsets), 0.0);
  for (int64_t g = 0; g < kDraws; ++g) {
    const int64_t offset = sampler.offset(g);
    ASSERT_GE(offset, 0);
    ASSERT_LE(offset, kSize - kLength - 1);
    counts[static_cast<size_t>(offset)] += 1.0;
  }
  const double expected = static_cast<double>(kDraws) / kOffsets;
  double chi2 = 0.0;
  for (double count : counts) chi2 += (count - expected) * (count - expected) / expected;
  EXPECT_LT(chi2, (kOffsets - 1) + 6.0 * std::sqrt(2.0 * (kOffsets - 1)));
  const Sampler other(counting(kSize), Sampling::kRandomOffset, kLength, 8);
  int same = 0;
  for (int64_t g = 0; g < 1000; ++g) same += other.offset(g) == sampler.offset(g);
  EXPECT_LT(same, 60);  // 20 on average
}

TEST_F(SamplerTest, RandomOffsetOfTheShortestTextIsItsStart) {
  const Sampler sampler(counting(11), Sampling::kRandomOffset, 10, 7);
  for (int64_t g = 0; g < 100; ++g) EXPECT_EQ(sampler.offset(g), 0);
}

TEST_F(SamplerTest, SequentialWraps) {
  const Sampler sampler(counting(10, 50), Sampling::kSequential, 4, 0);
  for (int64_t g = 0; g < 30; ++g) {
    const Window window = sample_of(sampler, g, 4);
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(window.tokens[static_cast<size_t>(i)], 50 + (g * 4 + i) % 10);
      EXPECT_EQ(window.targets[static_cast<size_t>(i)], 50 + (g * 4 + i + 1) % 10);
    }
  }
  EXPECT_EQ(sampler.offset(INT64_MAX / 2), 2);  // 4 * (2^62 - 1) = 2^64 - 4 = ...612 modulo 10
}

// All rows of a step in global order, as `ranks` ranks would fill them.
struct Step {
  std::vector<int64_t> samples;
  Ids tokens, targets;
  bool operator==(const Step&) const = default;
};
Step gather_step(const Sampler& sampler, const BatchLayout& layout, int64_t step, size_t length) {
  const auto rows = static_cast<size_t>(layout.micro_batch);
  Step all;
  for (int64_t micro = 0; micro < layout.micro_steps(); ++micro) {
    for (int64_t rank = 0; rank < layout.ranks; ++rank) {
      std::vector<int64_t> samples(rows);
      Ids tokens(rows * length), targets(rows * length);
      fill_micro_batch(sampler, layout, step, micro, rank, tokens, targets, samples);
      all.samples.insert(all.samples.end(), samples.begin(), samples.end());
      all.tokens.insert(all.tokens.end(), tokens.begin(), tokens.end());
      all.targets.insert(all.targets.end(), targets.begin(), targets.end());
    }
  }
  return all;
}

TEST_F(SamplerTest, EveryRankCountSeesTheSameGlobalBatches) {
  const TokenRange part = counting(500);
  for (Sampling sampling : {Sampling::kShuffled, Sampling::kRandomOffset, Sampling::kSequential}) {
    const Sampler sampler(part, sampling, 9, 3);
    for (int64_t step : {0, 1, 17}) {
      const Step one = gather_step(sampler, {1, 12, 12}, step, 9);
      for (size_t i = 0; i < 12; ++i) {
        EXPECT_EQ(one.samples[i], step * 12 + static_cast<int64_t>(i));
        EXPECT_EQ(one.tokens[i * 9], sample_of(sampler, one.samples[i], 9).tokens[0]);
      }
      for (BatchLayout layout : {BatchLayout{1, 3, 12},
                                 {2, 6, 12},
                                 {2, 3, 12},
                                 {3, 4, 12},
                                 {3, 2, 12},
                                 {4, 1, 12},
                                 {12, 1, 12}}) {
        EXPECT_EQ(gather_step(sampler, layout, step, 9), one) << layout.ranks;
      }
    }
  }
}

TEST_F(SamplerTest, ValidationCoversEveryWindowOnceInEqualRounds) {
  constexpr int64_t kLength = 5;
  for (int64_t windows : {1, 7, 12, 13}) {
    const TokenRange part = counting(windows * kLength + 1 + windows % 3, 30);
    for (int64_t ranks : {1, 2, 3, 5}) {
      for (size_t rows : {size_t{1}, size_t{4}}) {
        const ValidationWindows list(part, kLength, ranks, static_cast<int64_t>(rows));
        ASSERT_EQ(list.windows(), windows);
        EXPECT_EQ(list.tokens(), windows * kLength);
        const int64_t per_round = ranks * static_cast<int64_t>(rows);
        EXPECT_EQ(list.rounds(), (windows + per_round - 1) / per_round);
        int64_t next = 0;
        for (int64_t round = 0; round < list.rounds(); ++round) {
          for (int64_t rank = 0; rank < ranks; ++rank) {
            Ids tokens(rows * kLength), targets(rows * kLength);
            std::vector<double> weights(rows);
            list.fill(round, rank, tokens, targets, weights);
            for (size_t row = 0; row < rows; ++row) {
              const bool real = next < windows;
              const int64_t window = real ? next : 0;
              EXPECT_EQ(weights[row], real ? 1.0 : 0.0);
              EXPECT_EQ(list.window(round, rank, static_cast<int64_t>(row)), real ? next : -1);
              EXPECT_EQ(tokens[row * kLength], 30 + window * kLength);
              EXPECT_EQ(targets[row * kLength + 4], 30 + window * kLength + 5);
              ++next;
            }
          }
        }
        EXPECT_GE(next, windows);
      }
    }
  }
}

}  // namespace
}  // namespace memwall
