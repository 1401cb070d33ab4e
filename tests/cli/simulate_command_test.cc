// `memwall simulate` and `memwall plan --cluster`: what scripts read, and what wrong words are
// told.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

// Without latencies and launches, so that seconds can be counted.
constexpr const char* kCluster = R"(device {
  peak_flops { fp32: 1e9 }
  gemm_fraction: 0.5
  vector_flops: 1e9
  dram_bandwidth: 1e9
  dram_fraction: 1
  launch_seconds: 0
  memory: "16MiB"
}
node { devices: 2 link_bandwidth: 1e8 link_fraction: 1 link_latency: 0
       nics: 1 nic_bandwidth: 1e7 nic_fraction: 0.5 nic_latency: 0 }
)";

class SimulateCommand : public testing::Test {
 protected:
  SimulateCommand() { write_text(place.path("c.textproto"), kCluster); }

  Outcome simulate(std::vector<std::string> words) {
    words.insert(words.begin(), {"simulate", "tiny.textproto", "--cluster", "c.textproto", "--set",
                                 "parallel.zero_stage=3"});
    return place.memwall(words);
  }
  Json json_of(std::vector<std::string> words) {
    words.push_back("--json");
    const Outcome outcome = simulate(words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.exit_code == 0 ? Json::parse(outcome.out) : Json();
  }
  Json plan_json(std::vector<std::string> words) {
    words.insert(words.begin(),
                 {"plan", "tiny.textproto", "--ranks", "4", "--cluster", "c.textproto", "--set",
                  "parallel.zero_stage=3", "--set", "data.global_batch_size=8", "--json"});
    const Outcome outcome = place.memwall(words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return Json::parse(outcome.out, nullptr, false);
  }
  void expect_bad(const std::vector<std::string>& words, const std::string& part) {
    const Outcome outcome = simulate(words);
    EXPECT_EQ(outcome.exit_code, 2) << part;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  const Workplace place{"simulate"};
};

int64_t sent_by(const Json& plan, const std::vector<std::string>& collectives) {
  int64_t out = 0;
  for (const std::string& collective : collectives) {
    out += plan["traffic"][collective]["wire_bytes"].get<int64_t>();
  }
  return out;
}

TEST_F(SimulateCommand, PlanPredictsAStep) {
  const Json json = plan_json({"--set", "communication.algorithm=PAIRWISE"});
  const int64_t sent = sent_by(json, {"all_gather", "reduce_scatter", "all_reduce"});
  const Json& links = json["link_bytes"];
  EXPECT_EQ(links["intra"].get<int64_t>() + links["inter"].get<int64_t>(), sent);
  EXPECT_EQ(links["inter"], links["intra"].get<int64_t>() * 2);  // of 3 others one is in the node
  // Both ranks of a node send `inter` over its one NIC, 5e6 bytes/s; links inside are faster.
  const Json& seconds = json["step_seconds"];
  const double communication = 2 * links["inter"].get<double>() / 5e6;
  EXPECT_NEAR(seconds["communication"].get<double>(), communication, 1e-9);
  // Without prefetch nothing overlaps.
  EXPECT_NEAR(seconds["full_overlap"].get<double>(), seconds["no_overlap"].get<double>(), 1e-9);
  EXPECT_NEAR(seconds["exposed_communication"].get<double>(), communication, 1e-9);
  EXPECT_EQ(json["transport"], "MPI");  // four ranks on two hosts
  EXPECT_EQ(seconds["skew"], 0.0);

  const Outcome text =
      place.memwall({"plan", "tiny.textproto", "--ranks", "2", "--cluster", "c.textproto"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("with full overlap"), std::string::npos) << text.out;
}

// By itself the plan takes two levels here. Of the three parts that a rank sends, one leaves the
// node: (M - 1) g s over the NIC, after (g - 1) M s inside, with g = M = 2. Scalars go pairwise:
// g (N - g) s over the NIC, of which a rank's part is two thirds of what it sends.
TEST_F(SimulateCommand, PlanPredictsTheAlgorithmsItChose) {
  const Json json = plan_json({});
  const int64_t vectors = sent_by(json, {"all_gather", "reduce_scatter"});
  const int64_t scalars = sent_by(json, {"all_reduce"});
  EXPECT_EQ(json["link_bytes"]["inter"], vectors / 3 + scalars / 3 * 2);
  EXPECT_EQ(json["link_bytes"]["intra"], vectors / 3 * 2 + scalars / 3);
  const double parts = static_cast<double>(vectors) / 3, scalar = static_cast<double>(scalars) / 3;
  EXPECT_NEAR(json["step_seconds"]["communication"].get<double>(),
              2 * parts / 5e6 + 2 * parts / 1e8 + 4 * scalar / 5e6, 1e-9);
}

TEST_F(SimulateCommand, RowsGrowTheBatch) {
  const Json json = json_of({"--ranks", "2..8"});
  ASSERT_EQ(json["rows"].size(), 3U);
  int64_t ranks = 2;
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["ranks"], ranks);
    EXPECT_EQ(row["nodes"], ranks / 2);
    ASSERT_TRUE(row["fits"]);
    // 4 sequences of 16 tokens on 2 ranks: 32 a rank.
    const double seconds = row["step_seconds"]["full_overlap"];
    EXPECT_NEAR(row["tokens_per_second"].get<double>(), 32.0 * static_cast<double>(ranks) / seconds,
                1e-6);
    const double base = json["rows"][0]["step_seconds"]["full_overlap"];
    EXPECT_NEAR(row["efficiency"].get<double>(), base / seconds, 1e-9);
    EXPECT_NEAR(row["exposed_share"].get<double>(),
                row["step_seconds"]["exposed_communication"].get<double>() / seconds, 1e-9);
    ranks *= 2;
  }
  EXPECT_TRUE(json["rows"][0]["link_for_90_percent"].is_null());
  EXPECT_EQ(json["rows"][2]["bottleneck"], "inter link");
}

// The bandwidth that the table asks for is enough, and not much more than enough.
TEST_F(SimulateCommand, TheLinkForNinetyPercentReachesIt) {
  const Json row = json_of({"--ranks", "2,4"})["rows"][1];
  const Json& link = row["link_for_90_percent"];
  ASSERT_EQ(link["link"], "inter") << row;
  const double bandwidth = link["bandwidth"];
  EXPECT_NEAR(bandwidth, link["factor"].get<double>() * 1e7, 1e-3 * bandwidth);
  std::string text = kCluster;
  const std::string now = "nic_bandwidth: 1e7";
  text.replace(text.find(now), now.size(), "nic_bandwidth: " + std::to_string(bandwidth));
  write_text(place.path("c.textproto"), text);
  const double efficiency = json_of({"--ranks", "2,4"})["rows"][1]["efficiency"];
  EXPECT_GE(efficiency, 0.9 - 1e-9);
  EXPECT_LE(efficiency, 0.901);
}

TEST_F(SimulateCommand, WhatIfScalesTheMachine) {
  const std::string batch = "data.global_batch_size=8";
  const Json before = json_of({"--ranks", "4", "--set", batch})["rows"][0]["step_seconds"];
  const Json all = json_of({"--ranks", "4", "--set", batch, "--what-if", "link=4,flops=4,dram=4"});
  EXPECT_NEAR(all["rows"][0]["step_seconds"]["full_overlap"].get<double>(),
              before["full_overlap"].get<double>() / 4, 1e-9);
  const Json link =
      json_of({"--ranks", "4", "--set", batch, "--what-if", "link=0.5"})["rows"][0]["step_seconds"];
  EXPECT_NEAR(link["communication"].get<double>(), 2 * before["communication"].get<double>(), 1e-9);
  EXPECT_NEAR(link["compute"].get<double>(), before["compute"].get<double>(), 1e-12);
}

TEST_F(SimulateCommand, ARowSaysWhatDoesNotFit) {
  // Pairwise: no windows beside the arena.
  const std::vector<std::string> words = {"--ranks", "1,4",
                                          "--set",   "memory.budget=250KiB",
                                          "--set",   "communication.algorithm=PAIRWISE"};
  const Outcome table = simulate(words);
  EXPECT_EQ(table.exit_code, 0) << table.err;
  const Json json = json_of(words);
  ASSERT_EQ(json["rows"].size(), 2U);
  EXPECT_NE(table.out.find("does not fit"), std::string::npos) << table.out;
  EXPECT_FALSE(json["rows"][0]["fits"]) << json;
  EXPECT_EQ(json["rows"][0]["bottleneck"], "memory capacity");
  EXPECT_FALSE(json["rows"][0].contains("efficiency"));
  EXPECT_TRUE(json["rows"][1]["fits"]) << json;
  EXPECT_EQ(json["rows"][1]["efficiency"], 1.0);  // the smallest count that fits

  const Outcome nothing = simulate({"--ranks", "1,2", "--set", "memory.budget=1KiB"});
  EXPECT_EQ(nothing.exit_code, 3);
  EXPECT_NE(nothing.err.find("nothing fits 1.0 KiB a rank"), std::string::npos) << nothing.err;
}

TEST_F(SimulateCommand, WrongWords) {
  expect_bad({"--ranks", "eight"}, "--ranks: \"eight\" names no rank counts");
  expect_bad({"--ranks", "8..100"}, "not the first doubled");
  expect_bad({"--ranks", "4,2"}, "does not ascend");
  expect_bad({"--ranks", "0..8"}, "--ranks");
  expect_bad({"--ranks", "2,3"}, "c.textproto: 3 ranks do not fill whole nodes of 2");
  expect_bad({"--ranks", "2", "--what-if", "link=0"}, "--what-if: \"link=0\"");
  expect_bad({"--ranks", "2", "--what-if", "disk=2"}, "allowed: flops, dram and link");
  expect_bad({"--ranks", "2", "--what-if", "link=2,link=3"}, "more than once");
  expect_bad({"--ranks", "2", "--algorithm", "tree"}, "two_level");
  expect_bad({"--ranks", "2", "--set", "precision.mode=FP16"}, "device.peak_flops.fp16 is missing");
  expect_bad({"--ranks", "4"}, "data.global_batch_size: 4 is not a multiple");
  write_text(place.path("c.textproto"), "node { wires: 3 }");
  expect_bad({"--ranks", "2"}, "c.textproto:1: node.wires: no such field");
  EXPECT_EQ(place.memwall({"simulate", "tiny.textproto", "--ranks", "2"}).exit_code, 2);
  const Outcome dump = place.memwall(
      {"plan", "tiny.textproto", "--ranks", "2", "--cluster", "c.textproto", "--dump"});
  EXPECT_EQ(dump.exit_code, 2);
  EXPECT_NE(dump.err.find("--cluster"), std::string::npos) << dump.err;
}

}  // namespace
}  // namespace memwall::test
