// The teams of the GPU as imitated GPUs run them, and the geometry of launches. Of the GPU's twin
// headers, compiled for the host.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "runtime/base/rng.h"
#include "runtime/kernels/cuda/geometry.h"
#include "runtime/kernels/cuda/team.h"
#include "tests/kernels/team_order.h"

namespace memwall::cuda {
namespace {

template <class T>
std::vector<T> numbers(size_t count) {
  std::vector<T> out(count);
  for (size_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(2.0 * to_unit_interval(random_bits(9, 1, i)) - 0.9);
  }
  return out;
}

template <class T, int kThreads>
void expect_sums() {
  ImitatedTeam<kThreads> team;
  for (size_t count : {0, 1, 3, 4, 5, 127, 128, 129, 1000, 1023, 1024, 1025, 4096, 5003}) {
    const std::vector<T> x = numbers<T>(count);
    const Input<T> in{x.data()};
    const auto n = static_cast<int64_t>(count);
    const T sum = team.sum(n, in);
    EXPECT_EQ(sum, test::sum_in_team_order(x, kThreads)) << count << " of " << kThreads;
    long double plain = 0.0, magnitudes = 0.0;
    for (T v : x) plain += v, magnitudes += std::abs(v);
    const long double allowed = 32 * std::numeric_limits<T>::epsilon() * magnitudes;
    EXPECT_LE(std::abs(sum - plain), allowed) << count << " of " << kThreads;
    if (count == 0) continue;
    EXPECT_EQ(team.max(n, in), *std::max_element(x.begin(), x.end())) << count;
  }
}

TEST(ImitatedTeam, SumsInTheStatedOrder) {
  expect_sums<float, 32>();
  expect_sums<double, 32>();
  expect_sums<float, 256>();
  expect_sums<double, 256>();
}

TEST(ImitatedTeam, SumsOfDualNumbersAreSumsOfValuesAndOfTangents) {
  const std::vector<float> v = numbers<float>(3001);
  std::vector<float> d = v;
  std::reverse(d.begin(), d.end());
  ImitatedTeam<256> team;
  const Dual<float> sum = team.sum(3001, DualInput<float>{{v.data()}, {d.data()}});
  EXPECT_EQ(sum.v, test::sum_in_team_order(v, 256));
  EXPECT_EQ(sum.d, test::sum_in_team_order(d, 256));
}

TEST(ImitatedTeam, NotANumberStays) {
  std::vector<float> x = numbers<float>(500);
  x[317] = std::nanf("");
  EXPECT_TRUE(std::isnan(ImitatedTeam<32>{}.sum(500, Input<float>{x.data()})));
}

// What a thread does in one call it finds again in the next: each element has one owner.
TEST(ImitatedTeam, EachElementHasOneOwner) {
  for (int threads : {32, 256}) {
    for (int64_t begin : {0, 4096}) {
      for (int64_t count : {0, 1, 5, 1024, 4093}) {
        std::vector<int> owner(static_cast<size_t>(count), -1);
        for (int thread = 0; thread < threads; ++thread) {
          const auto take = [&](int64_t first, int64_t elements) {
            for (int64_t i = first; i < first + elements; ++i) {
              int& mine = owner.at(static_cast<size_t>(i - begin));
              EXPECT_EQ(mine, -1) << "two owners of " << i;
              mine = thread;
            }
          };
          each_of_thread(thread, threads, begin, begin + count, [&](auto at) {
            if constexpr (std::is_same_v<decltype(at), Part>) {
              take(at.first, at.count);
            } else {
              take(at.first, at.kSize);
            }
          });
        }
        for (int64_t i = 0; i < count; ++i) {
          EXPECT_EQ(owner[static_cast<size_t>(i)], owner_of(begin + i, threads)) << i;
        }
      }
    }
  }
}

TEST(Geometry, BlocksCoverTheRows) {
  constexpr int64_t kMost = 2147483647;
  EXPECT_EQ(blocks_of(1, 1), 1u);
  EXPECT_EQ(blocks_of(1, 4), 1u);
  EXPECT_EQ(blocks_of(4, 4), 1u);
  EXPECT_EQ(blocks_of(5, 4), 2u);
  EXPECT_EQ(blocks_of(kMost, 1), kMost);
  EXPECT_EQ(blocks_of(4 * kMost, 4), kMost);
  // More rows than a grid has blocks: they take turns.
  EXPECT_EQ(blocks_of(kMost + 1, 1), kMost);
  EXPECT_EQ(blocks_of(4 * kMost + 1, 4), kMost);
  EXPECT_EQ(blocks_of(int64_t{1} << 45, 4), kMost);
  static_assert(kTileThreads % kWarp == 0 && kRowWarps * kWarp <= 1024);
}

}  // namespace
}  // namespace memwall::cuda
