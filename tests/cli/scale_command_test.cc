// `memwall scale` by the command: real sweeps on this host and on throttled ones, what is left when
// one is killed, and what wrong words are told.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"
#include "tests/launch/namespace_support.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

class ScaleCommand : public testing::Test {
 protected:
  Outcome scale(std::vector<std::string> words) const {
    words.insert(words.begin(), {"scale", "tiny.textproto", "--folder", "sweep"});
    return place.memwall(words);
  }
  Json record() const { return Json::parse(file_text(place.path("sweep/scale.json"))); }
  void expect_refused(const Outcome& outcome, int code, const std::string& part) const {
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
  }
  // A program that stands before the others of its name.
  void add_program(const std::string& name, const std::string& script) const {
    fs::create_directories(place.path("bin"));
    write_text(place.path("bin") / name, "#!/bin/bash\n" + script);
    ::chmod((place.path("bin") / name).c_str(), 0755);
  }
  void use_programs() const {
    ::setenv("PATH", (place.path("bin").string() + ":" + path_).c_str(), 1);
  }
  void TearDown() override { ::setenv("PATH", path_.c_str(), 1); }

  const Workplace place{"scale"};
  const std::string path_ = ::getenv("PATH");
};

TEST_F(ScaleCommand, SweepsThisHostAndGoesOn) {
  const std::vector<std::string> words = {"--ranks",  "1,2",     "--stages", "0,3",
                                          "--strong", "--steps", "5",        "--json"};
  const Outcome first = scale(words);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(Json::parse(first.out), record());
  const Json runs = record()["runs"];
  ASSERT_EQ(runs.size(), 4u);
  for (const Json& run : runs) {
    EXPECT_EQ(run["status"], "done");
    EXPECT_EQ(run["hosts"], 1);
    EXPECT_GT(run["tokens_per_second"], 0.0);
    EXPECT_EQ(run["traffic"]["planned"], run["traffic"]["measured"]);
    EXPECT_NEAR(run["tokens_per_second"].get<double>() * run["step_seconds"].get<double>(), 64.0,
                1e-6);  // 4 sequences of 16 tokens, whatever the ranks
  }
  // The stages agree bit by bit: stage 0 on two ranks ends where stage 3 does.
  EXPECT_EQ(runs[1]["loss"], runs[3]["loss"]);
  EXPECT_EQ(runs[0]["efficiency"], 1.0);
  EXPECT_NEAR(
      runs[1]["efficiency"].get<double>(),
      0.5 * runs[1]["tokens_per_second"].get<double>() / runs[0]["tokens_per_second"].get<double>(),
      1e-9);
  EXPECT_TRUE(file_text(place.path("sweep/scale.svg")).starts_with("<svg"));

  const auto written = fs::last_write_time(place.path("sweep/ranks-1-stage-0/config.textproto"));
  write_text(place.path("sweep/ranks-2-stage-3/metrics/rank-00001.jsonl"), "{\"step\": 1}\n");
  const Outcome again = scale(words);
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_NE(again.err.find("ranks-1-stage-0: done already"), std::string::npos) << again.err;
  EXPECT_NE(again.err.find("ranks-2-stage-3.unfinished-1"), std::string::npos) << again.err;
  EXPECT_EQ(fs::last_write_time(place.path("sweep/ranks-1-stage-0/config.textproto")), written);
  EXPECT_EQ(record()["runs"][3]["status"], "done");
  EXPECT_EQ(record()["runs"][0], runs[0]);
  expect_refused(scale({"--ranks", "1,2", "--steps", "5"}), 2, "scaling");
}

TEST_F(ScaleCommand, AFailedRunIsShownAndTheSweepGoesOn) {
  const std::vector<std::string> sets = {"--set", "model.hidden_size=64",
                                         "--set", "parallel.zero_stage=3",
                                         "--set", "communication.transport=MPI"};
  // A budget that two ranks keep, of which each holds half of the state, and one does not.
  const auto planned_peak = [&](const std::string& ranks) {
    std::vector<std::string> words = {"plan", "tiny.textproto", "--ranks", ranks, "--json"};
    words.insert(words.end(), sets.begin(), sets.end());
    words.insert(words.end(), {"--set", "data.global_batch_size="});
    return Json::parse(place.memwall(words).out)["memory"]["peak"].get<int64_t>();
  };
  const int64_t one = planned_peak("1"), two = planned_peak("2");
  ASSERT_LT(two + 100'000, one);
  std::vector<std::string> words = {"--ranks", "1,2", "--steps", "2"};
  words.insert(words.end(), sets.begin(), sets.end());
  words.insert(words.end(), {"--set", fmt::format("memory.budget={}B", (one + two) / 2), "--set",
                             "data.global_batch_size="});
  const Outcome outcome = scale(words);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("ranks-1-stage-3: failed: memwall: memory.budget: "),
            std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("the end of "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("ranks-2-stage-3: "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("failed"), std::string::npos) << outcome.out;
  const Json runs = record()["runs"];
  EXPECT_EQ(runs[0]["status"], "failed");
  EXPECT_NE(runs[0]["error"].get<std::string>().find("more than the budget"), std::string::npos);
  EXPECT_EQ(runs[1]["status"], "done");
  EXPECT_EQ(runs[1]["efficiency"], 1.0);  // the smallest count that is done
}

TEST_F(ScaleCommand, MeasuresBeforeItPredicts) {
  const std::vector<std::string> words = {"--ranks", "2",           "--strong", "--steps",
                                          "5",       "--calibrate", "--json"};
  const Outcome first = scale(words);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_NE(first.err.find("measuring 2 ranks"), std::string::npos) << first.err;
  const Json run = record()["runs"][0];
  ASSERT_TRUE(run["predicted"].is_object()) << run;
  const double predicted = run["predicted"]["step_seconds"];
  EXPECT_GT(predicted, 0.0);
  EXPECT_NEAR(run["prediction_error"].get<double>(),
              predicted / run["step_seconds"].get<double>() - 1.0, 1e-9);

  const Outcome again = scale(words);  // keeps what was measured
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(again.err.find("measuring"), std::string::npos) << again.err;
  EXPECT_EQ(record()["runs"][0]["predicted"]["step_seconds"], predicted);
  expect_refused(scale({"--ranks", "2", "--strong", "--steps", "5"}), 2, "calibrate");
}

TEST_F(ScaleCommand, GoesOnWhereTheMachineCannotBeMeasured) {
  const Outcome outcome = scale({"--ranks", "1", "--stages", "0,3", "--strong", "--steps", "5",
                                 "--calibrate", "--set", "memory.budget=1KiB"});
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  ASSERT_EQ(record()["runs"].size(), 2u);
  for (const Json& run : record()["runs"]) {
    EXPECT_EQ(run["status"], "failed");
    EXPECT_NE(run["error"].get<std::string>().find("could not be measured"), std::string::npos);
  }
}

TEST_F(ScaleCommand, RefusesBadWords) {
  expect_refused(scale({}), 2, "--ranks");
  expect_refused(scale({"--ranks", "2,1"}), 2, "--ranks");
  expect_refused(scale({"--ranks", "1", "--weak", "--strong"}), 2, "--strong");
  expect_refused(scale({"--ranks", "1,3", "--hosts", "a,b"}), 2, "3 ranks do not divide among 2");
  expect_refused(scale({"--ranks", "1", "--cluster", "none"}), 2, "none");
  EXPECT_FALSE(fs::exists(place.path("sweep")));
}

TEST_F(ScaleCommand, NamesAHostThatDoesNotAnswer) {
  // mpirun reaches other hosts by its agent: one is here, the other hangs.
  add_program("agent", "case \"$1\" in here) shift; exec bash -c \"$*\";; *) sleep 100;; esac\n");
  ::setenv("OMPI_MCA_plm_rsh_agent", (place.path("bin") / "agent").c_str(), 1);
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = scale({"--ranks", "2", "--steps", "2", "--hosts", "silent.example,b"});
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  ::unsetenv("OMPI_MCA_plm_rsh_agent");
  expect_refused(outcome, 2, "--hosts: silent.example");
  EXPECT_LT(taken.count(), 20.0);
  EXPECT_FALSE(fs::exists(place.path("sweep/ranks-2-stage-0")));
}

// srun stands for Slurm: it starts the ranks on this host, and keeps what it was told.
TEST_F(ScaleCommand, StartsRanksBySrun) {
  expect_refused(scale({"--ranks", "2", "--slurm"}), 2, "this is no Slurm job");
  add_program(
      "srun",
      "echo \"$@\" >>srun.txt\nwhile [[ $1 == -* ]]; do\n"
      "  if [[ $1 == -n ]]; then ranks=$2; fi\n  if [[ $1 == -? ]]; then shift; fi\n  shift\n"
      "done\nexec mpirun --oversubscribe --bind-to none -np \"$ranks\" \"$@\"\n");
  use_programs();
  ::setenv("SLURM_JOB_NUM_NODES", "1", 1);
  const Outcome outcome = scale({"--ranks", "2", "--slurm", "--steps", "2"});
  ::unsetenv("SLURM_JOB_NUM_NODES");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string told = file_text(place.path("srun.txt"));
  EXPECT_TRUE(told.starts_with("--mpi=pmix --kill-on-bad-exit=1 -N 1 -n 2 --ntasks-per-node=2 " +
                               std::string(MEMWALL_BINARY) + " train tiny.textproto"))
      << told;
  EXPECT_EQ(record()["launch"], "slurm");
}

class ScaleOverLinks : public ScaleCommand {
 protected:
  void SetUp() override {
    const std::string why = no_namespaces();
    if (!why.empty()) GTEST_SKIP() << why;
  }
  // 430,000 parameters: 1.7 MB of gradients and weights a rank and step at stage 0.
  std::vector<std::string> words(int steps) const {
    return {MEMWALL_BINARY,
            "scale",
            "tiny.textproto",
            "--folder",
            "sweep",
            "--ranks",
            "2",
            "--link",
            "100mbit",
            "--steps",
            std::to_string(steps),
            "--set",
            "model.hidden_size=128",
            "--set",
            "data.micro_batch_size=1",
            "--set",
            "data.global_batch_size=2"};
  }
  pid_t start(int steps) const {
    const std::vector<std::string> all = words(steps);
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    std::vector<char*> arguments;
    for (const std::string& word : all) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    if (::chdir(place.path("").c_str()) != 0) ::_exit(99);
    (void)!::freopen("start.log", "w", stderr);
    (void)!::freopen("/dev/null", "w", stdout);
    ::execv(arguments[0], arguments.data());
    ::_exit(99);
  }
  bool within(double seconds, const std::function<bool()>& happened) const {
    for (int i = 0; i < static_cast<int>(seconds * 20); ++i) {
      if (happened()) return true;
      ::usleep(50'000);
    }
    return happened();
  }
  bool has_finished_a_step() const {
    return !file_text(place.path("sweep/ranks-2-stage-0/metrics/rank-00001.jsonl")).empty();
  }
  // Processes with this test's folder among their words.
  int processes() const {
    int out = 0;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string line = file_text(entry.path() / "cmdline");
      out += line.find(place.path("sweep").string() + "/ranks") != std::string::npos;
    }
    return out;
  }
};

TEST_F(ScaleOverLinks, SendsOverThemWhatWasPlanned) {
  std::vector<std::string> all = words(12);
  all.erase(all.begin());
  const Outcome outcome = place.memwall(all);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err
                                  << file_text(place.path("sweep/ranks-2-stage-0.log"));
  const Json run = record()["runs"][0];
  EXPECT_EQ(record()["launch"], "namespaces");
  EXPECT_EQ(record()["link"], "100mbit");
  EXPECT_EQ(run["hosts"], 2);
  double planned = 0.0;
  for (const Json& collective : run["traffic"]["planned"]) {
    planned += 12.0 * collective["wire_bytes"].get<double>();
  }
  EXPECT_GT(planned, 15e6);
  EXPECT_NEAR(run["link_sent_bytes"].get<double>(), planned, 0.1 * planned);
  // At least as long as the bytes take on the link: 12.5 MB/s each way.
  EXPECT_GT(run["step_seconds"].get<double>(), 0.9 * planned / 12.0 / 12.5e6);
  const Json environment =
      Json::parse(file_text(place.path("sweep/ranks-2-stage-0/environment.json")));
  EXPECT_NE(environment["hosts"][0], environment["hosts"][1]);
  EXPECT_EQ(environment["launch"]["OMPI_COMM_WORLD_LOCAL_SIZE"], "1");
}

TEST_F(ScaleOverLinks, LeaveNothingWhereItIsInterrupted) {
  const pid_t pid = start(400);
  ASSERT_TRUE(within(60, [&] { return has_finished_a_step(); }))
      << file_text(place.path("start.log"));
  EXPECT_EQ(namespaces_of(pid).size(), 3u);
  EXPECT_GT(processes(), 0);
  ::kill(pid, SIGTERM);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  EXPECT_TRUE(namespaces_of(pid).empty());
  EXPECT_EQ(processes(), 0);
  const std::string said = file_text(place.path("start.log"));
  EXPECT_NE(said.find("ended by SIGTERM"), std::string::npos) << said;
  EXPECT_NE(said.find("the same command goes on"), std::string::npos) << said;
}

TEST_F(ScaleOverLinks, OfAKilledSweepAreRemovedByTheNext) {
  const pid_t pid = start(6);
  ASSERT_TRUE(within(60, [&] { return has_finished_a_step(); }))
      << file_text(place.path("start.log"));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  EXPECT_EQ(namespaces_of(pid).size(), 3u);
  EXPECT_TRUE(within(20, [&] { return processes() == 0; }));  // mpirun goes with its parent
  std::vector<std::string> all = words(6);
  all.erase(all.begin());
  const Outcome outcome = place.memwall(all);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find(fmt::format("removed what a killed sweep left: memwall-{}-1", pid)),
            std::string::npos)
      << outcome.err;
  EXPECT_TRUE(namespaces_of(pid).empty());
  EXPECT_EQ(record()["runs"][0]["status"], "done");
}

}  // namespace
}  // namespace memwall::test
