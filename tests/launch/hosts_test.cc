// Hosts as users name them, who gets how many ranks, and the commands that start them.
#include "runtime/launch/hosts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <chrono>

#include "runtime/launch/process.h"
#include "tests/data/temporary_folder.h"

namespace memwall {
namespace {

std::string line(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

// A folder of programs that stands before the others.
class Programs {
 public:
  Programs() : path_(::getenv("PATH")) {
    ::setenv("PATH", (folder.at("") + ":" + path_).c_str(), 1);
  }
  ~Programs() { ::setenv("PATH", path_.c_str(), 1); }
  void add(const std::string& name, const std::string& script) const {
    ::chmod(folder.write(name, "#!/bin/bash\n" + script).c_str(), 0755);
  }
  const TemporaryFolder folder;

 private:
  std::string path_;
};

TEST(Hosts, OfAList) {
  EXPECT_EQ(parse_hosts("node1,10.0.0.2:4"),
            (std::vector<Host>{{"node1", std::nullopt}, {"10.0.0.2", 4}}));
  expect_input_error([] { parse_hosts("a,b,a"); }, {"--hosts", "names a twice"});
  expect_input_error([] { parse_hosts("a,,b"); }, {"--hosts", "\"\" is no host"});
  expect_input_error([] { parse_hosts("a:0"); }, {"--hosts", "\"a\" is no host"});
  expect_input_error([] { parse_hosts("-x"); }, {"\"-x\" is no host"});
  expect_input_error([] { parse_hosts("no/such/file"); }, {"no/such/file", "no such file"});
}

TEST(Hosts, OfAFile) {
  const TemporaryFolder folder;
  const std::string file = folder.write("hosts", "# ours\nnode1 slots=2\n\nnode2   # idle\n");
  EXPECT_EQ(parse_hosts(file), (std::vector<Host>{{"node1", 2}, {"node2", std::nullopt}}));
  const std::string bad = folder.write("bad", "node1\nnode2 cpus=2\n");
  expect_input_error([&] { parse_hosts(bad); }, {bad + ":2", "cpus=2", "slots=K"});
  const std::string empty = folder.write("empty", "# none\n");
  expect_input_error([&] { parse_hosts(empty); }, {empty, "names no host"});
}

TEST(Hosts, TakeEqualShares) {
  EXPECT_EQ(place(1, 4, 0), (HostPlacement{1, 1}));
  EXPECT_EQ(place(3, 4, 0), (HostPlacement{3, 1}));
  EXPECT_EQ(place(8, 4, 0), (HostPlacement{4, 2}));
  EXPECT_EQ(place(8, 4, 4), (HostPlacement{2, 4}));
  expect_input_error([] { place(6, 4, 0); }, {"--ranks", "6 ranks do not divide among 4 hosts"});
  expect_input_error([] { place(6, 4, 4); }, {"--ranks", "--ranks-per-host 4"});
  expect_input_error([] { place(8, 3, 2); }, {"need 4 hosts, and there are 3"});
}

TEST(Commands, SayWhereRanksGo) {
  EXPECT_EQ(line(local_mpirun(2, false)),
            "mpirun --bind-to none --oversubscribe --host localhost:2");
  EXPECT_NE(line(local_mpirun(4, true)).find("--mca mpi_yield_when_idle 1"), std::string::npos);
  const std::vector<Host> hosts = {{"a", std::nullopt}, {"b", 2}, {"c", std::nullopt}};
  EXPECT_EQ(line(hosts_mpirun(hosts, {2, 2})), "mpirun --bind-to none --host a:2,b:2");
  expect_input_error([&] { hosts_mpirun(hosts, {2, 3}); }, {"b has 2 slots", "3 ranks"});
}

TEST(Commands, OfSlurm) {
  ::unsetenv("SLURM_CPUS_PER_TASK");
  EXPECT_EQ(line(slurm_srun({2, 4})),
            "srun --mpi=pmix --kill-on-bad-exit=1 -N 2 -n 8 --ntasks-per-node=4");
  ::setenv("SLURM_CPUS_PER_TASK", "6", 1);
  EXPECT_NE(line(slurm_srun({2, 4})).find("--cpus-per-task=6"), std::string::npos);
  ::unsetenv("SLURM_CPUS_PER_TASK");
  ::unsetenv("SLURM_JOB_NUM_NODES");
  ::unsetenv("SLURM_NNODES");
  expect_input_error([] { slurm_nodes(); }, {"--slurm", "no Slurm job"});
  ::setenv("SLURM_NNODES", "3", 1);
  EXPECT_EQ(slurm_nodes(), 3);
  ::unsetenv("SLURM_NNODES");
}

// mpirun stands for the way to a host: one answers, one hangs, one has another version.
TEST(Hosts, ThatDoNotAnswerAreNamedWithinSeconds) {
  const Programs programs;
  programs.add("mpirun", R"(case "$*" in
  *"--host dead:1 "*) sleep 100 ;;
  *"--host old:1 "*) echo "memwall 0.0.9, compiled for x" ;;
  *"--host gone:1 "*) echo "ssh: Could not resolve hostname gone" >&2; exit 1 ;;
  *) echo "memwall 1.2.3, compiled for x" ;;
esac
)");
  const ProcessGuard guard;
  const std::vector<std::string> program = {"memwall", "--version"};
  const auto try_all = [&](const std::string& list) {
    try_hosts(parse_hosts(list), program, "memwall 1.2.3,", 1.0);
  };
  EXPECT_NO_THROW(try_all("good,better"));
  const auto start = std::chrono::steady_clock::now();
  expect_input_error([&] { try_all("good,dead,also"); }, {"--hosts: dead did not", "within 1 s"});
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  EXPECT_LT(taken.count(), 5.0);
  expect_input_error([&] { try_all("good,gone"); }, {"--hosts: gone did not", "resolve hostname"});
  expect_input_error([&] { try_all("old"); }, {"old did not", "0.0.9", "1.2.3"});
}

}  // namespace
}  // namespace memwall
