// A run's whole life by the command: train, alone and on two ranks; resume; eval, generate, export
// and show on what it left.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

std::vector<Json> json_lines(const fs::path& path) {
  std::vector<Json> out;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) out.push_back(Json::parse(line));
  return out;
}

class Run : public testing::Test {
 protected:
  // Trains into `folder`; `ranks` of 0: without mpirun.
  void train(const std::string& folder, int ranks, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"train", "tiny.textproto", "--run-dir", folder});
    const Outcome outcome = place.memwall(more, ranks);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err << outcome.out;
    trained_ = outcome.out;
  }
  void expect_refused(const Outcome& outcome, int code, const std::string& part) {
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
  }
  void expect_same_file(const std::string& a, const std::string& b) {
    EXPECT_EQ(file_text(place.path(a)), file_text(place.path(b))) << a << ' ' << b;
    EXPECT_FALSE(file_text(place.path(a)).empty()) << a;
  }
  const Workplace place{"run"};
  std::string trained_;  // what the last training printed
};

TEST_F(Run, LeavesAFolderThatSaysEverything) {
  train("one", 0);
  for (const char* file : {"config.textproto", "plan.txt", "environment.json", "validation.jsonl",
                           "metrics/rank-00000.jsonl", "checkpoints/step-00000006"}) {
    EXPECT_TRUE(fs::exists(place.path("one") / file)) << file;
  }
  const std::string config = file_text(place.path("one/config.textproto"));
  EXPECT_NE(config.find(place.path("text.txt").string()), std::string::npos) << config;
  const Json environment = Json::parse(file_text(place.path("one/environment.json")));
  for (const char* key : {"memwall", "compiled_for", "machine", "launch", "hosts", "command"}) {
    EXPECT_TRUE(environment.contains(key)) << key;
  }
  const std::vector<Json> lines = json_lines(place.path("one/metrics/rank-00000.jsonl"));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_LT(lines[5]["loss"], lines[0]["loss"]);
  EXPECT_NE(file_text(place.path("one/plan.txt")).find("program last_micro"), std::string::npos);
  EXPECT_NE(trained_.find("run folder: "), std::string::npos) << trained_;
  EXPECT_NE(trained_.find("0 measured"), std::string::npos) << trained_;
}

TEST_F(Run, TracesTheStepsAskedForByTheNamesOfThePlan) {
  train("run", 2, {"--set", "run.trace_steps=2-3", "--set", "parallel.zero_stage=3"});
  EXPECT_NE(trained_.find("step 3  traced: "), std::string::npos) << trained_;
  EXPECT_NE(trained_.find("last 6 steps, by rank"), std::string::npos) << trained_;
  const std::string plan = file_text(place.path("run/plan.txt"));
  for (const char* rank : {"rank-00000", "rank-00001"}) {
    const Json trace =
        Json::parse(file_text(place.path(std::string("run/trace/") + rank + ".json")));
    std::set<int64_t> steps;
    size_t named = 0;
    for (const Json& event : trace["traceEvents"]) {
      if (event["ph"] != "X") continue;
      steps.insert(event["args"]["step"].get<int64_t>());
      if (event["tid"] > 1) continue;  // not a step of the plan
      ++named;
      const std::string name = event["name"];
      EXPECT_NE(plan.find(' ' + name + "  -> "), std::string::npos) << name;
    }
    EXPECT_EQ(steps, (std::set<int64_t>{2, 3}));
    EXPECT_GT(named, 100u);
  }
  const Outcome shown = place.memwall({"show", "run"});
  EXPECT_NE(shown.out.find("last 6 steps, by rank"), std::string::npos) << shown.out;
}

TEST_F(Run, TracesOtherStepsAfterAResume) {
  train("run", 0, {"--set", "run.trace_steps=2"});
  train("run", 0, {"--resume", "--set", "run.steps=8", "--set", "run.trace_steps=7-8"});
  EXPECT_NE(trained_.find("step 8  traced: "), std::string::npos) << trained_;
  expect_refused(place.memwall({"train", "tiny.textproto", "--run-dir", "other", "--set",
                                "run.trace_steps=7"}),
                 2, "run.trace_steps=7: step 7 is beyond run.steps = 6 (allowed: 1 to 6)");
  EXPECT_FALSE(fs::exists(place.path("other")));
}

TEST_F(Run, IsNamedAndLinkedWhereNoFolderIsGiven) {
  ASSERT_EQ(place.memwall({"train", "tiny.textproto", "--set", "run.steps=1"}).exit_code, 0);
  const fs::path latest = fs::canonical(place.path("runs/latest"));
  EXPECT_TRUE(latest.filename().string().starts_with("tiny-2")) << latest;
  EXPECT_EQ(place.memwall({"show", "runs/latest"}).exit_code, 0);
}

TEST_F(Run, OnTwoRanksShowsBothAndAgreesWithOne) {
  train("two", 2, {"--set", "parallel.zero_stage=3"});
  for (const char* part : {"0 planned", "1 measured", "all_gather", "run folder: "}) {
    EXPECT_NE(trained_.find(part), std::string::npos) << part << " in\n" << trained_;
  }
  train("one", 0);
  const std::vector<Json> one = json_lines(place.path("one/metrics/rank-00000.jsonl"));
  const std::vector<Json> two = json_lines(place.path("two/metrics/rank-00001.jsonl"));
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_NEAR(one[i]["loss"].get<double>(), two[i]["loss"].get<double>(), 1e-4);
    EXPECT_EQ(two[i]["planned"]["traffic"], two[i]["measured"]["traffic"]);
  }
}

TEST_F(Run, IsNotStartedOverAndGoesOn) {
  train("run", 0);
  expect_refused(place.memwall({"train", "tiny.textproto", "--run-dir", "run"}), 2, "--resume");
  expect_refused(place.memwall({"train", "tiny.textproto", "--run-dir", "run", "--resume", "--set",
                                "optimizer.learning_rate=0.5"}),
                 2, "optimizer.learning_rate");
  train("run", 0, {"--resume", "--set", "run.steps=9"});
  EXPECT_NE(trained_.find("resumed from step 6"), std::string::npos) << trained_;
  train("straight", 0, {"--set", "run.steps=9", "--set", "schedule.decay_steps=6"});
  const std::vector<Json> resumed = json_lines(place.path("run/metrics/rank-00000.jsonl"));
  const std::vector<Json> straight = json_lines(place.path("straight/metrics/rank-00000.jsonl"));
  ASSERT_EQ(resumed.size(), 9u);
  ASSERT_EQ(straight.size(), 9u);
  EXPECT_EQ(resumed[8]["loss"], straight[8]["loss"]);
  // Nothing left to do.
  train("run", 0, {"--resume", "--set", "run.steps=9"});
}

TEST_F(Run, StopsAtItsTimeLimitAndSaves) {
  train("run", 2,
        {"--set", "run.steps=100000", "--set", "run.time_limit=1s", "--set", "run.eval_every=0",
         "--set", "run.save_every=0"});
  EXPECT_NE(trained_.find("stopped after step"), std::string::npos) << trained_;
  EXPECT_EQ(place.memwall({"eval", "run"}).exit_code, 0);
}

TEST_F(Run, DamagedCheckpointsArePassedOverAndNeverStartedOver) {
  train("run", 2, {"--set", "run.save_every=3"});
  const auto cut = [&](const std::string& step) {
    std::filesystem::resize_file(place.path("run/checkpoints/" + step + "/rank-00000.bin"), 100);
  };
  const std::vector<std::string> more = {
      "train", "tiny.textproto",   "--run-dir", "run",        "--resume",
      "--set", "run.save_every=3", "--set",     "run.steps=8"};
  cut("step-00000006");
  const Outcome resumed = place.memwall(more, 2);
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_NE(resumed.out.find("step-00000006/rank-00000.bin"), std::string::npos) << resumed.out;
  EXPECT_NE(resumed.out.find("resumed from step 3"), std::string::npos) << resumed.out;
  cut("step-00000006");
  cut("step-00000008");
  expect_refused(place.memwall(more, 2), 2, "no valid checkpoint is left");
  EXPECT_EQ(json_lines(place.path("run/metrics/rank-00000.jsonl")).size(), 8u);
  expect_refused(place.memwall(more, 0), 2, "no valid checkpoint is left");
}

TEST_F(Run, AnotherRankCountIsNamed) {
  train("run", 2, {"--set", "data.global_batch_size="});
  expect_refused(place.memwall({"train", "tiny.textproto", "--run-dir", "run", "--resume", "--set",
                                "data.global_batch_size="},
                               3),
                 2, "was saved by 2 ranks");
}

TEST_F(Run, ResumeOfNothingStarts) {
  train("fresh", 0, {"--resume"});
  EXPECT_EQ(json_lines(place.path("fresh/metrics/rank-00000.jsonl")).size(), 6u);
}

TEST_F(Run, EvalRepeatsTheLastValidationAtAnyRankCount) {
  train("run", 2, {"--set", "parallel.zero_stage=3"});
  const Json last = json_lines(place.path("run/validation.jsonl")).back();
  for (const int ranks : {0, 3}) {
    const Outcome outcome = place.memwall({"eval", "run", "--json"}, ranks);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const Json json = Json::parse(outcome.out);
    EXPECT_NEAR(json["loss"].get<double>(), last["loss"].get<double>(), 1e-6) << ranks;
    EXPECT_EQ(json["tokens"], last["tokens"]) << ranks;
  }
  EXPECT_NE(place.memwall({"eval", "run"}).out.find("loss"), std::string::npos);
}

// All that is done with a run, in BF16: masters are FP32, and what runs on rounds them again.
TEST_F(Run, InBfloat16IsResumedEvaluatedContinuedAndExported) {
  std::vector<std::string> more = {"--set", "precision.mode=BF16", "--set",
                                   "parallel.zero_stage=3"};
  train("run", 2, more);
  more.insert(more.end(), {"--resume", "--set", "run.steps=9"});
  train("run", 2, more);
  const std::vector<Json> lines = json_lines(place.path("run/metrics/rank-00001.jsonl"));
  ASSERT_EQ(lines.size(), 9u);
  EXPECT_LT(lines.back()["loss"], lines.front()["loss"]);
  for (const Json& line : lines) {
    EXPECT_EQ(line["loss_scale"], 1.0);
    EXPECT_EQ(line["skipped"], false);
    EXPECT_EQ(line["planned"]["traffic"], line["measured"]["traffic"]);
    EXPECT_EQ(line["planned"]["memory"]["peak"], line["measured"]["memory"]["peak"]);
  }
  const Outcome evaluated = place.memwall({"eval", "run", "--json"});
  ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
  EXPECT_NEAR(Json::parse(evaluated.out)["loss"].get<double>(),
              json_lines(place.path("run/validation.jsonl")).back()["loss"].get<double>(), 1e-3);
  const Outcome text = place.memwall({"generate", "run", "--prompt", "In the", "--tokens", "30"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_TRUE(text.out.starts_with("In the")) << text.out;
  ASSERT_EQ(place.memwall({"export", "run", "first"}).exit_code, 0);
  train("again", 0,
        {"--set", "precision.mode=BF16", "--set", "model.init_from=" + place.path("first").string(),
         "--set", "run.steps=1"});
  const Json line = json_lines(place.path("again/metrics/rank-00000.jsonl")).front();
  EXPECT_NEAR(line["loss"].get<double>(), lines.back()["loss"].get<double>(), 0.5);
}

TEST_F(Run, GenerateRepeatsItselfBySeed) {
  train("run", 0);
  const auto generate = [&](std::vector<std::string> more, int ranks = 0) {
    more.insert(more.begin(), {"generate", "run", "--prompt", "In the", "--tokens", "30"});
    const Outcome outcome = place.memwall(more, ranks);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(outcome.out.starts_with("In the")) << outcome.out;
    return outcome.out;
  };
  const std::string text = generate({"--seed", "5"});
  EXPECT_EQ(generate({"--seed", "5"}), text);
  EXPECT_NE(generate({"--seed", "6"}), text);
  EXPECT_EQ(generate({"--temperature", "0", "--seed", "1"}),
            generate({"--temperature", "0", "--seed", "2"}));
  EXPECT_EQ(generate({"--top-k", "1"}), generate({"--temperature", "0"}));
  EXPECT_EQ(generate({"--seed", "5"}, 2), text) << "two ranks write as one, and once";
  expect_refused(place.memwall({"generate", "run", "--prompt", ""}), 2, "--prompt");
  expect_refused(place.memwall({"generate", "run", "--prompt", "x", "--top-p", "2"}), 2, "--top-p");
}

TEST_F(Run, ExportsEqualBytesAndStartsFromThem) {
  train("run", 0);
  ASSERT_EQ(place.memwall({"export", "run", "first"}).exit_code, 0);
  ASSERT_EQ(place.memwall({"export", "run", "second"}, 2).exit_code, 0);
  expect_same_file("first/model.safetensors", "second/model.safetensors");
  expect_same_file("first/config.json", "second/config.json");
  expect_refused(place.memwall({"export", "run", "first"}), 2, "first");

  // A run that starts from the folder, and does not move, exports the same weights.
  train("again", 0,
        {"--set", "model.init_from=first", "--set", "run.steps=1", "--set",
         "optimizer.learning_rate=1e-300", "--set", "optimizer.weight_decay=0"});
  ASSERT_EQ(place.memwall({"export", "again", "third"}).exit_code, 0);
  expect_same_file("first/model.safetensors", "third/model.safetensors");
  const Outcome other = place.memwall({"train", "tiny.textproto", "--run-dir", "other", "--set",
                                       "model.init_from=first", "--set", "model.num_layers=3"});
  expect_refused(other, 2, "first");
  EXPECT_FALSE(fs::exists(place.path("other")));
}

TEST_F(Run, ShowRepeatsTheTables) {
  train("run", 2);
  const Outcome text = place.memwall({"show", "run"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  const size_t table = text.out.find("memory, by rank");
  ASSERT_NE(table, std::string::npos) << text.out;
  EXPECT_NE(trained_.find(text.out.substr(table)), std::string::npos);
  const Outcome json = place.memwall({"show", "run", "--json"});
  ASSERT_EQ(json.exit_code, 0) << json.err;
  const Json object = Json::parse(json.out);
  EXPECT_EQ(object["step"], 6);
  EXPECT_EQ(object["ranks"].size(), 2u);
  EXPECT_TRUE(object["validation"].contains("loss"));
}

}  // namespace
}  // namespace memwall::test
