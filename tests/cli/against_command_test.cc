// `memwall simulate --against`: real runs beside what is predicted of them.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

class AgainstCommand : public testing::Test {
 protected:
  AgainstCommand() {
    // Nodes of two ranks; so slow that its prediction is far from any run.
    write_text(place.path("c.textproto"), R"(device { peak_flops { fp32: 1e9 } gemm_fraction: 1
  vector_flops: 1e9 dram_bandwidth: 1e9 dram_fraction: 1 launch_seconds: 0 memory: "16MiB" }
node { devices: 2 link_bandwidth: 1e8 link_fraction: 1 link_latency: 0 nics: 0 }
)");
  }
  void train(const std::string& folder, int ranks, const std::string& stage) const {
    // 8 sequences a step, in one micro-step.
    const std::string micro = std::to_string(8 / std::max(1, ranks));
    const Outcome outcome = place.memwall(
        {"train", "tiny.textproto", "--run-dir", folder, "--set", "parallel.zero_stage=" + stage,
         "--set", "data.global_batch_size=8", "--set", "data.micro_batch_size=" + micro},
        ranks);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  Outcome simulate(std::vector<std::string> words) const {
    words.insert(words.begin(),
                 {"simulate", "tiny.textproto", "--cluster", "c.textproto", "--ranks", "1,2"});
    return place.memwall(words);
  }
  // The slowest rank's median over the last steps, 20 % and at least two left out.
  double measured(const std::string& folder, int ranks, int steps) const {
    std::vector<double> slowest(static_cast<size_t>(steps), 0.0);
    for (int rank = 0; rank < ranks; ++rank) {
      std::ifstream file(
          place.path(folder + "/metrics/rank-0000" + std::to_string(rank) + ".jsonl"));
      std::string line;
      for (double& seconds : slowest) {
        std::getline(file, line);
        seconds = std::max(seconds, Json::parse(line)["step_seconds"].get<double>());
      }
    }
    std::vector<double> counted(slowest.begin() + 2, slowest.end());  // of six: four
    std::sort(counted.begin(), counted.end());
    return 0.5 * (counted[1] + counted[2]);
  }

  const Workplace place{"against"};
};

TEST_F(AgainstCommand, ShowsTheErrorOfEachRun) {
  train("one", 0, "0");
  train("two", 2, "3");
  const Outcome outcome = simulate({"--against", "one", "--against", "two", "--against", "one",
                                    "--what-if", "flops=3,dram=3", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  ASSERT_EQ(json["against"].size(), 2U) << json["against"];  // each once
  std::vector<double> errors;
  for (const Json& run : json["against"]) {
    const bool one = run["run"] == "one";
    EXPECT_EQ(run["ranks"], one ? 1 : 2);
    EXPECT_EQ(run["zero_stage"], one ? 0 : 3);
    EXPECT_EQ(run["steps"], 4);
    EXPECT_NEAR(run["measured_seconds"].get<double>(), measured(run["run"], one ? 1 : 2, 6), 1e-12);
    // As plan --cluster has it, whatever --what-if says.
    const Outcome plan = place.memwall(
        {"plan", "tiny.textproto", "--cluster", "c.textproto", "--ranks", one ? "1" : "2", "--set",
         one ? "parallel.zero_stage=0" : "parallel.zero_stage=3", "--set",
         "data.global_batch_size=8", "--set",
         one ? "data.micro_batch_size=8" : "data.micro_batch_size=4", "--json"});
    EXPECT_NEAR(run["predicted_seconds"].get<double>(),
                Json::parse(plan.out)["step_seconds"]["full_overlap"].get<double>(), 1e-12);
    const double error =
        run["predicted_seconds"].get<double>() / run["measured_seconds"].get<double>() - 1;
    EXPECT_NEAR(run["error"].get<double>(), error, 1e-9);
    errors.push_back(std::abs(error));
  }
  EXPECT_EQ(json["against_error"]["runs"], 2);
  EXPECT_NEAR(json["against_error"]["median"].get<double>(), (errors[0] + errors[1]) / 2, 1e-9);
  EXPECT_NEAR(json["against_error"]["largest"].get<double>(), std::max(errors[0], errors[1]), 1e-9);
  const Outcome text = simulate({"--against", "two"});
  EXPECT_NE(text.out.find("in the median of 1 run,"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("two"), std::string::npos);
}

TEST_F(AgainstCommand, TakesTheRunsOfASweep) {
  const Outcome sweep = place.memwall({"scale", "tiny.textproto", "--ranks", "1,2", "--folder",
                                       "sweep", "--strong", "--steps", "3"});
  ASSERT_EQ(sweep.exit_code, 0) << sweep.err;
  fs::remove_all(place.path("sweep/ranks-1-stage-0"));
  const Outcome outcome = simulate({"--against", "sweep", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json against = Json::parse(outcome.out)["against"];
  ASSERT_EQ(against.size(), 2U) << against;
  EXPECT_EQ(against[0]["run"], "sweep/ranks-2-stage-0");
  EXPECT_GT(against[0]["measured_seconds"], 0.0);
  EXPECT_EQ(against[1]["run"], "sweep/ranks-1-stage-0");  // scale.json calls it done
  EXPECT_NE(against[1]["problem"].get<std::string>().find("sweep/ranks-1-stage-0"),
            std::string::npos);
}

TEST_F(AgainstCommand, NamesWhatTheMachineCannotHaveMade) {
  train("four", 4, "3");
  train("one", 0, "0");
  const Outcome outcome = simulate({"--against", "four", "--against", "one"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(
      outcome.out.find("four: not compared: c.textproto: 4 ranks do not fit on one node of 2"),
      std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.out.find("in the median of 1 run,"), std::string::npos) << outcome.out;
  // With a network four ranks are two nodes, and the run was on one.
  std::string text = file_text(place.path("c.textproto"));
  text.replace(text.find("nics: 0"), 7,
               "nics: 1 nic_bandwidth: 1e8 nic_fraction: 1 nic_latency: 0");
  write_text(place.path("c.textproto"), text);
  const Outcome nodes = simulate({"--against", "four"});
  EXPECT_EQ(nodes.exit_code, 0) << nodes.err;
  EXPECT_NE(nodes.out.find("four: not compared: "), std::string::npos) << nodes.out;
  EXPECT_NE(nodes.out.find("/four: ran with 4 ranks a host, and c.textproto would have 2 of 4 "
                           "ranks on a node"),
            std::string::npos)
      << nodes.out;
  for (const char* wrong : {"none", "."}) {
    const Outcome refused = simulate({"--against", wrong});
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_EQ(refused.out, "");
    EXPECT_NE(refused.err.find(std::string("--against ") + wrong + ": is neither a run folder nor"),
              std::string::npos)
        << refused.err;
  }
}

}  // namespace
}  // namespace memwall::test
