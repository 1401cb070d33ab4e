// `memwall plan`: the JSON that scripts read, the dump that can be checked, and its speed.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

class PlanCommand : public testing::Test {
 protected:
  Outcome plan(std::vector<std::string> words) {
    words.insert(words.begin(), {"plan", "tiny.textproto"});
    return place.memwall(words);
  }
  std::string dump(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {"--ranks", "2", "--set", "parallel.zero_stage=3", "--dump"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = plan(words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }
  Outcome check(const std::string& text) {
    write_text(place.path("edited.plan"), text);
    return place.memwall({"plan", "--check", "edited.plan"});
  }
  const Workplace place{"plan"};
};

TEST_F(PlanCommand, JsonHoldsEveryKey) {
  const Outcome outcome = plan({"--ranks", "2", "--set", "parallel.zero_stage=3", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  for (const char* key : {"parameters", "ranks", "zero_stage", "plan_hash", "memory", "traffic",
                          "flops", "dram_bytes", "padding"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["ranks"], 2);
  EXPECT_EQ(json["zero_stage"], 3);
  for (const char* key : {"parameters", "gradients", "optimizer_state", "activations",
                          "gathered_parameters", "communication", "workspace"}) {
    EXPECT_TRUE(json["memory"].contains(key)) << key;
    EXPECT_TRUE(json["memory"]["maximum"].contains(key)) << key;
    EXPECT_LE(json["memory"][key], json["memory"]["maximum"][key]) << key;
  }
  for (const char* key : {"peak", "lower_bound", "page_bytes"}) {
    EXPECT_TRUE(json["memory"].contains(key)) << key;
  }
  for (const char* collective : {"all_gather", "reduce_scatter", "all_reduce"}) {
    for (const char* key : {"calls", "payload_bytes", "wire_bytes"}) {
      EXPECT_GT(json["traffic"][collective][key], 0) << collective << ' ' << key;
    }
  }
  for (const char* key : {"model", "recomputed", "tangent", "run_total"}) {
    EXPECT_TRUE(json["flops"].contains(key)) << key;
  }
  EXPECT_DOUBLE_EQ(json["flops"]["run_total"].get<double>(),
                   json["flops"]["model"].get<double>() * 2 * 6);  // ranks, steps
}

TEST_F(PlanCommand, OneRankSendsNothing) {
  const Outcome outcome = plan({"--ranks", "1", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  for (const char* collective : {"all_gather", "reduce_scatter", "all_reduce"}) {
    EXPECT_EQ(json["traffic"][collective]["calls"], 0);
  }
}

TEST_F(PlanCommand, EveryPrecisionIsPlanned) {
  for (const char* mode : {"FP32", "FP16", "BF16", "FP64"}) {
    const Outcome outcome = plan({"--ranks", "4", "--json", "--set", "data.global_batch_size=8",
                                  "--set", std::string("precision.mode=") + mode});
    EXPECT_EQ(outcome.exit_code, 0) << mode << ": " << outcome.err;
  }
}

TEST_F(PlanCommand, DumpIsReadBackExactly) {
  for (const char* set : {"data.global_batch_size=4", "data.global_batch_size=12"}) {
    const std::string text = dump({"--set", set});
    const Outcome outcome = check(text);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const Json json = Json::parse(
        plan({"--ranks", "2", "--set", "parallel.zero_stage=3", "--json", "--set", set}).out);
    EXPECT_NE(outcome.out.find(json["plan_hash"].get<std::string>()), std::string::npos)
        << outcome.out;
  }
}

// A dump with one field of its first step of a kind changed; `broken` is that step's name.
struct Edit {
  std::string text, step;
};

Edit drop_waits(const std::string& dump) {
  const size_t last_micro = dump.find("program name=last_micro");
  const size_t steps = dump.find("\nsteps\n", last_micro);
  for (size_t line = dump.find("\nstep name=", steps); line != std::string::npos;
       line = dump.find("\nstep name=", line + 1)) {
    const size_t waits = dump.find(" waits=", line) + 7;
    const size_t end = dump.find(' ', waits);
    if (dump.substr(waits, end - waits) == "-" ||
        dump.find(" stream=0", line) > dump.find('\n', line + 1)) {
      continue;
    }
    Edit edit{dump, dump.substr(line + 11, dump.find(' ', line + 11) - line - 11)};
    edit.text.replace(waits, end - waits, "-");
    return edit;
  }
  return {};
}

TEST_F(PlanCommand, ADroppedWaitIsFound) {
  const Edit edit = drop_waits(dump());
  ASSERT_FALSE(edit.text.empty());
  const Outcome outcome = check(edit.text);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find(edit.step), std::string::npos) << edit.step << " in " << outcome.err;
}

TEST_F(PlanCommand, AMovedResultIsFound) {
  std::string text = dump();
  const size_t step = text.find("step name=", text.find("\nsteps\n", text.find("name=evaluate")));
  const size_t base = text.find(" base=", text.find("\nout ", step)) + 6;
  text.replace(base, text.find(' ', base) - base, "64");
  const Outcome outcome = check(text);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("step"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("program evaluate"), std::string::npos) << outcome.err;
}

TEST_F(PlanCommand, DamagedDumpsAreRefused) {
  const std::string text = dump();
  for (const std::string& damaged :
       {std::string("nonsense\n"), text.substr(0, text.size() / 2), std::string()}) {
    const Outcome outcome = check(damaged);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_NE(outcome.err.find("edited.plan"), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(place.memwall({"plan", "--check", "missing.plan"}).exit_code, 2);
}

// gpt2-xl on 1024 ranks: under half a second by the interface; a shared machine gets some grace.
TEST_F(PlanCommand, IsQuickForManyRanks) {
  write_text(place.path("xl.textproto"), R"(model { num_layers: 48 hidden_size: 1600 num_heads: 25
        context_length: 1024 vocab_size: 50257 }
data { tokens: "none-*.bin" seq_length: 1024 micro_batch_size: 1 global_batch_size: 1024 }
parallel { zero_stage: 3 }
run { steps: 10 })");
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = place.memwall({"plan", "xl.textproto", "--ranks", "1024", "--json"});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["parameters"], 1557611200);
  EXPECT_LT(seconds.count(), 2.0);
}

}  // namespace
}  // namespace memwall::test
