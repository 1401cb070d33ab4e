#include "runtime/cli/cores.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>

namespace memwall::test {
namespace {

using Cores = std::vector<int>;

std::vector<RankCores> alike(size_t ranks, const Cores& cores, int threads) {
  return std::vector<RankCores>(ranks, RankCores{"here", cores, threads});
}

TEST(Cores, RanksThatShareCoresTakeThemInOrder) {
  const auto ranks = alike(2, {1, 3, 4, 5}, 2);
  EXPECT_EQ(pinned_cores(ranks, 0), (Cores{1, 3}));
  EXPECT_EQ(pinned_cores(ranks, 1), (Cores{4, 5}));
}

TEST(Cores, OtherHostsAndOtherCoresDoNotCount) {
  std::vector<RankCores> ranks = alike(4, {0, 1}, 1);
  ranks[0].host = "there", ranks[0].threads = 2;
  ranks[1].cores = {2, 3}, ranks[1].threads = 2;
  EXPECT_EQ(pinned_cores(ranks, 0), (Cores{0, 1}));
  EXPECT_EQ(pinned_cores(ranks, 1), (Cores{2, 3}));
  EXPECT_EQ(pinned_cores(ranks, 3), (Cores{1}));
}

TEST(Cores, RanksMayHaveDifferentNumbersOfThreads) {
  std::vector<RankCores> ranks = alike(3, {0, 1, 2, 3}, 1);
  ranks[1].threads = 2;
  EXPECT_EQ(pinned_cores(ranks, 1), (Cores{1, 2}));
  EXPECT_EQ(pinned_cores(ranks, 2), (Cores{3}));
}

TEST(Cores, NobodyIsPinnedWhereThreadsOutnumberCores) {
  EXPECT_TRUE(pinned_cores(alike(5, {0, 1, 2, 3}, 1), 0).empty());
  EXPECT_TRUE(pinned_cores(alike(1, {0}, 2), 0).empty());
}

// Two jobs of one thread would both take the first core.
TEST(Cores, NobodyIsPinnedWhereCoresAreLeft) {
  EXPECT_TRUE(pinned_cores(alike(1, {0, 1}, 1), 0).empty());
  EXPECT_TRUE(pinned_cores(alike(3, {0, 1, 2, 3}, 1), 2).empty());
}

TEST(Cores, NobodyIsPinnedWhereOthersMayUseSomeOfTheCores) {
  std::vector<RankCores> ranks = alike(2, {0, 1}, 2);
  ranks[1].cores = {1, 2};
  EXPECT_TRUE(pinned_cores(ranks, 0).empty());
  EXPECT_TRUE(pinned_cores(ranks, 1).empty());
}

TEST(Cores, AreDividedAmongTheRanksThatShareThem) {
  std::vector<RankCores> ranks = alike(3, {0, 1, 2, 3}, 0);
  ranks[2].host = "there";
  EXPECT_EQ(default_threads(ranks, 0), 2);
  EXPECT_EQ(default_threads(ranks, 2), 4);
  EXPECT_EQ(default_threads(alike(3, {0}, 0), 1), 1);
}

// Cpus_allowed_list as the kernel says it of the calling thread.
std::string allowed_by_the_kernel() {
  std::ifstream status("/proc/thread-self/status");
  std::string word;
  while (status >> word && word != "Cpus_allowed_list:") {
  }
  status >> word;
  return word;
}

TEST(Cores, EachThreadHasItsOwn) {
  // In a thread of its own: the pinning ends with it.
  std::thread([] {
    Cores cores = allowed_cores();
    EXPECT_EQ(std::set<int>(cores.begin(), cores.end()).size(), cores.size());
    cores.resize(std::min<size_t>(cores.size(), 4));
    ASSERT_TRUE(pin_threads(cores));
    std::vector<std::string> seen(cores.size());
#pragma omp parallel num_threads(static_cast <int>(cores.size()))
    seen[static_cast<size_t>(omp_get_thread_num())] = allowed_by_the_kernel();
    for (size_t i = 0; i < cores.size(); ++i) EXPECT_EQ(seen[i], std::to_string(cores[i]));
    EXPECT_EQ(allowed_cores(), Cores{cores[0]}) << "a bound process may use what it is bound to";
  }).join();
}

TEST(Cores, TheUsersOwnPlacementStays) {
  ASSERT_EQ(setenv("OMP_PROC_BIND", "true", 1), 0);
  const std::string before = allowed_by_the_kernel();
  EXPECT_FALSE(pin_threads(Cores{0}));
  EXPECT_EQ(allowed_by_the_kernel(), before);
  unsetenv("OMP_PROC_BIND");
  EXPECT_FALSE(pin_threads(Cores{}));
}

}  // namespace
}  // namespace memwall::test
