// `memwall fit` and the refusals over budget, as users and scripts meet them: the commands that are
// printed run, and plan the bytes that were stated.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/base/math.h"
#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

class FitCommand : public testing::Test {
 protected:
  Outcome fit(std::vector<std::string> words) const {
    // Without shared windows, which are larger than this model.
    words.insert(words.begin(), {"fit", "tiny.textproto", "--set", "communication.transport=MPI"});
    return place.memwall(words);
  }
  // Standard output is one object whatever the exit code.
  Json fit_json(std::vector<std::string> words, int exit_code = 0) const {
    words.push_back("--json");
    const Outcome outcome = fit(words);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.err.empty(), exit_code == 0) << outcome.err;
    return Json::parse(outcome.out);
  }
  void expect_error(const Outcome& outcome, int code, const std::vector<std::string>& parts) const {
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_TRUE(outcome.err.starts_with("memwall: ")) << outcome.err;
    EXPECT_LE(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 5) << outcome.err;
    for (const std::string& part : parts) {
      EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
    }
  }

  struct Command {
    int ranks = 1;
    std::vector<std::string> words;  // behind "train"
  };
  // "mpirun -np 2 BINARY train tiny.textproto --set ...", without quoted words.
  static Command parsed(const std::string& command) {
    Command out;
    std::istringstream text(command);
    std::vector<std::string> words;
    for (std::string word; text >> word;) words.push_back(word);
    auto at = words.begin();
    if (*at == "mpirun") {
      EXPECT_EQ(at[1], "-np");
      out.ranks = std::stoi(at[2]);
      at += 3;
    }
    EXPECT_EQ(at[0], MEMWALL_BINARY);
    EXPECT_EQ(at[1], "train");
    out.words.assign(at + 2, words.end());
    return out;
  }

  // What a rank of the printed command plans; it must be within the budget that it sets.
  Json planned(const std::string& command) const {
    const Command parts = parsed(command);
    std::vector<std::string> words = {"plan"};
    words.insert(words.end(), parts.words.begin(), parts.words.end());
    words.insert(words.end(), {"--ranks", std::to_string(parts.ranks), "--json"});
    const Outcome outcome = place.memwall(words);
    EXPECT_EQ(outcome.exit_code, 0) << command << '\n' << outcome.err;
    return Json::parse(outcome.out);
  }

  // The plan counts the arena in whole pages.
  void expect_planned(const Json& candidate) const {
    const Json plan = planned(candidate["command"]);
    const Json& memory = plan["memory"];
    const int64_t windows = memory.value("windows", int64_t{0});
    const int64_t arena = candidate["planned_bytes"].get<int64_t>() - windows;
    EXPECT_EQ(memory["peak"], round_up(arena, memory["page_bytes"])) << candidate;
    EXPECT_EQ(plan["parameters"], candidate["parameters"]);
    EXPECT_EQ(plan["zero_stage"], candidate["zero_stage"]);
    EXPECT_EQ(plan["flops"]["model"], candidate["flops"]["model"]);
    EXPECT_EQ(plan["flops"]["recomputed"], candidate["flops"]["recomputed"]);
    int64_t wire_bytes = 0;
    for (const auto& [collective, traffic] : plan["traffic"].items()) {
      EXPECT_EQ(traffic, candidate["traffic"][collective]) << collective;
      wire_bytes += traffic["wire_bytes"].get<int64_t>();
    }
    EXPECT_EQ(candidate["traffic"]["wire_bytes"], wire_bytes);
  }

  const Workplace place{"fit"};
};

TEST_F(FitCommand, EveryCandidatePlansTheBytesItStates) {
  for (const char* vary : {"settings", "layers", "micro_batch"}) {
    const Json found = fit_json({"--ranks", "2", "--budget", "240KiB", "--vary", vary});
    EXPECT_EQ(found["vary"], vary);
    EXPECT_EQ(found["ranks"], 2);
    EXPECT_EQ(found["budget_bytes"], 240 * 1024);
    EXPECT_TRUE(found["smallest"].is_null());
    EXPECT_EQ(found["best"], found["candidates"][0]);
    for (const Json& candidate : found["candidates"]) {
      EXPECT_LE(candidate["planned_bytes"], 240 * 1024);
      expect_planned(candidate);
    }
    if (found["next"].is_null()) continue;
    EXPECT_GT(found["next"]["planned_bytes"], 240 * 1024);
    expect_planned(found["next"]);  // with the budget that it needs
  }
}

TEST_F(FitCommand, LayersGrowWithTheBudget) {
  const Json deep = fit_json({"--ranks", "2", "--budget", "1MiB", "--vary", "layers"});
  ASSERT_FALSE(deep["next"].is_null());
  EXPECT_EQ(deep["next"]["layers"].get<int>(), deep["best"]["layers"].get<int>() + 1);
  EXPECT_GT(deep["best"]["layers"].get<int>(), 2);
}

TEST_F(FitCommand, SettingsAreTheDefaultAndTheBudgetMayStandInTheConfiguration) {
  const Json asked = fit_json({"--ranks", "2", "--budget", "240KiB", "--vary", "settings"});
  EXPECT_EQ(fit_json({"--ranks", "2", "--budget", "240KiB"}), asked);
  const Json configured = fit_json({"--ranks", "2", "--set", "memory.budget=240KiB"});
  EXPECT_EQ(configured["best"]["planned_bytes"], asked["best"]["planned_bytes"]);
  EXPECT_EQ(configured["budget_bytes"], asked["budget_bytes"]);
}

// As a user copies it from the screen: the run's own measurement is within the budget.
TEST_F(FitCommand, TheCommandRuns) {
  const Json found = fit_json({"--ranks", "2", "--budget", "200KiB"});
  const Command command = parsed(found["best"]["command"]);
  std::vector<std::string> words = {"train"};
  words.insert(words.end(), command.words.begin(), command.words.end());
  words.insert(words.end(), {"--run-dir", "run"});
  const Outcome outcome = place.memwall(words, command.ranks);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  std::istringstream lines(file_text(place.path("run") / "metrics" / "rank-00001.jsonl"));
  std::string line, last;
  while (std::getline(lines, line)) last = line;
  const Json memory = Json::parse(last)["measured"]["memory"];
  EXPECT_GT(memory["peak"], 0);
  EXPECT_LE(memory["peak"], 200 * 1024);
}

TEST_F(FitCommand, TextNamesTheCommandAndTheNextOne) {
  const Outcome outcome = fit({"--ranks", "2", "--budget", "240KiB", "--vary", "layers"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part : {"deepest model", "mpirun -np 2 ", "--set model.num_layers=",
                           "--set memory.budget=240KiB", "the next needs"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << " in\n" << outcome.out;
  }
}

TEST_F(FitCommand, WhereNothingFitsTheSmallestBudgetIsNamedAndWorks) {
  for (const char* vary : {"settings", "layers", "micro_batch"}) {
    const Json found = fit_json({"--ranks", "2", "--budget", "20KiB", "--vary", vary}, 3);
    EXPECT_TRUE(found["best"].is_null());
    EXPECT_TRUE(found["candidates"].empty());
    const int64_t smallest = found["smallest"]["planned_bytes"];
    expect_planned(found["smallest"]);
    const std::string budget = std::to_string(smallest) + "B";
    expect_error(fit({"--ranks", "2", "--budget", "20KiB", "--vary", vary}), 3,
                 {"--budget", budget, "train tiny.textproto"});
    EXPECT_EQ(
        fit_json({"--ranks", "2", "--budget", budget, "--vary", vary})["best"]["planned_bytes"],
        smallest);
    fit_json({"--ranks", "2", "--budget", std::to_string(smallest - 1) + "B", "--vary", vary}, 3);
  }
}

// The windows that ranks of a host share count.
TEST_F(FitCommand, SharedWindowsCountInTheBudget) {
  const Json windows = fit_json({"--ranks", "2", "--budget", "4334KiB", "--vary", "layers", "--set",
                                 "communication.transport=SHARED_MEMORY"});
  expect_planned(windows["best"]);
  EXPECT_GT(windows["best"]["planned_bytes"], 4 << 20);
  EXPECT_LE(windows["best"]["planned_bytes"], 4334 * 1024);
}

TEST_F(FitCommand, BadInput) {
  expect_error(place.memwall({"fit"}), 2, {"CONFIG"});
  expect_error(fit({"--budget", "1GiB"}), 2, {"--ranks"});
  expect_error(fit({"--ranks", "2"}), 2, {"--budget"});
  for (const char* ranks : {"0", "-1", "two"}) {
    expect_error(fit({"--ranks", ranks, "--budget", "1GiB"}), 2, {"--ranks"});
  }
  for (const char* budget : {"0", "0B", "-1GiB", "lots", "1 XB", "512", "1e3MiB"}) {
    expect_error(fit({"--ranks", "2", "--budget", budget}), 2, {"--budget", budget, "512MiB"});
  }
  expect_error(fit({"--ranks", "2", "--budget", "1GiB", "--vary", "width"}), 2,
               {"--vary", "width", "settings, layers, micro_batch"});
  expect_error(fit({"--ranks", "3", "--budget", "1GiB"}), 2, {"data.global_batch_size"});
  expect_error(fit({"--ranks", "2", "--budget", "1GiB", "--set", "model.num_heads=3"}), 2,
               {"num_heads"});
  expect_error(fit({"--ranks", "2", "--budget", "1GiB", "--vary", "layers", "--set",
                    "model.init_from=gpt2"}),
               2, {"model.init_from"});
}

// Every line of the refusal is a command that plans within the budget.
TEST_F(FitCommand, PlanAndTrainRefuseWithCommandsThatFit) {
  for (const char* budget : {"270KiB", "230KiB", "180KiB"}) {
    const std::string set = std::string("memory.budget=") + budget;
    const std::string mpi = "communication.transport=MPI";
    const Outcome plan =
        place.memwall({"plan", "tiny.textproto", "--ranks", "2", "--set", mpi, "--set", set});
    expect_error(plan, 3, {"memory.budget", "largest consumers", "the nearest that fit"});
    std::istringstream lines(plan.err);
    std::string line;
    std::getline(lines, line);
    int commands = 0;
    while (std::getline(lines, line)) {
      const size_t at = line.find(": mpirun -np 2 ");
      ASSERT_NE(at, std::string::npos) << line;
      EXPECT_NE(line.find(" FLOPs"), std::string::npos) << line;
      EXPECT_NE(line.find(" sent"), std::string::npos) << line;
      planned(line.substr(at + 2));
      ++commands;
    }
    EXPECT_GE(commands, 1) << plan.err;
    const Outcome train = place.memwall({"train", "tiny.textproto", "--set", mpi, "--set", set}, 2);
    EXPECT_EQ(train.exit_code, 3);
    EXPECT_NE(train.err.find(plan.err), std::string::npos) << train.err << "\nbeside\n" << plan.err;
  }
  EXPECT_FALSE(fs::exists(place.path("runs")));
}

}  // namespace
}  // namespace memwall::test
