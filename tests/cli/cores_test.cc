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

using Places = std::vector<int>;

std::vector<RankCores> alike(int ranks, int cores, int threads) {
  return std::vector<RankCores>(static_cast<size_t>(ranks), {"here 0,1,2,3", cores, threads});
}

TEST(Cores, RanksThatShareCoresTakeThemInOrder) {
  const auto ranks = alike(2, 4, 2);
  EXPECT_EQ(pinned_places(ranks, 0), (Places{0, 1}));
  EXPECT_EQ(pinned_places(ranks, 1), (Places{2, 3}));
}

TEST(Cores, OtherHostsAndOtherCoresDoNotCount) {
  std::vector<RankCores> ranks = alike(3, 4, 2);
  ranks[0].host_and_cores = "there 0,1,2,3";
  EXPECT_EQ(pinned_places(ranks, 0), (Places{0, 1}));
  EXPECT_EQ(pinned_places(ranks, 1), (Places{0, 1}));
  EXPECT_EQ(pinned_places(ranks, 2), (Places{2, 3}));
}

TEST(Cores, RanksMayHaveDifferentNumbersOfThreads) {
  std::vector<RankCores> ranks = alike(3, 4, 1);
  ranks[1].threads = 2;
  EXPECT_EQ(pinned_places(ranks, 1), (Places{1, 2}));
  EXPECT_EQ(pinned_places(ranks, 2), (Places{3}));
}

TEST(Cores, NobodyIsPinnedWhereThreadsOutnumberCores) {
  EXPECT_TRUE(pinned_places(alike(5, 4, 1), 0).empty());
  EXPECT_TRUE(pinned_places(alike(1, 1, 2), 0).empty());
}

TEST(Cores, AreDividedAmongTheRanksThatShareThem) {
  const std::vector<std::string> hosts = {"a 0,1,2,3", "a 0,1,2,3", "b 0,1,2,3"};
  EXPECT_EQ(default_threads(hosts, 0, 4), 2);
  EXPECT_EQ(default_threads(hosts, 2, 4), 4);
  EXPECT_EQ(default_threads(hosts, 0, 1), 1);
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
    std::vector<int> cores = allowed_cores();
    EXPECT_EQ(std::set<int>(cores.begin(), cores.end()).size(), cores.size());
    cores.resize(std::min<size_t>(cores.size(), 4));
    ASSERT_TRUE(pin_threads(cores));
    std::vector<std::string> seen(cores.size());
#pragma omp parallel num_threads(static_cast<int>(cores.size()))
    seen[static_cast<size_t>(omp_get_thread_num())] = allowed_by_the_kernel();
    for (size_t i = 0; i < cores.size(); ++i) EXPECT_EQ(seen[i], std::to_string(cores[i]));
    EXPECT_EQ(allowed_cores(), Places{cores[0]}) << "a bound process may use what it is bound to";
  }).join();
}

TEST(Cores, TheUsersOwnPlacementStays) {
  ASSERT_EQ(setenv("OMP_PROC_BIND", "true", 1), 0);
  const std::string before = allowed_by_the_kernel();
  EXPECT_FALSE(pin_threads(Places{0}));
  EXPECT_EQ(allowed_by_the_kernel(), before);
  unsetenv("OMP_PROC_BIND");
  EXPECT_FALSE(pin_threads(Places{}));
}

}  // namespace
}  // namespace memwall::test
