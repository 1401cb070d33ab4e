// `memwall report` as a user meets it: runs of the built binary, whole and damaged, as one page.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/cli/memwall_process.h"
#include "tests/report/page_data.h"

namespace memwall::test {
namespace {

using Json = nlohmann::ordered_json;

// A run of two ranks, made once; each test damages a copy of its own.
const Workplace& place() {
  static const Workplace made("report");
  static const Outcome run = made.memwall(
      {"train", "tiny.textproto", "--run-dir", "whole", "--set", "run.trace_steps=2"}, 2);
  check(run.exit_code == 0, "the run failed", run.err);
  return made;
}

fs::path copy_of_the_run(const std::string& name) {
  fs::remove_all(place().path(name));
  fs::create_directories(place().path(name).parent_path());
  fs::copy(place().path("whole"), place().path(name), fs::copy_options::recursive);
  return place().path(name);
}

void edit(const fs::path& path, const std::string& from, const std::string& to) {
  std::string text = file_text(path);
  const size_t at = text.find(from);
  check(at != std::string::npos, "nothing to edit", from);
  write_text(path, text.replace(at, from.size(), to));
}

Outcome report(std::vector<std::string> words) {
  words.insert(words.begin(), "report");
  return place().memwall(std::move(words));
}

// The page's data of a run that must be shown, whatever is missing.
Json shown(const std::vector<std::string>& runs) {
  std::vector<std::string> words = runs;
  words.insert(words.end(), {"-o", "page.html"});
  fs::remove(place().path("page.html"));
  const Outcome outcome = report(words);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return data_of(file_text(place().path("page.html")));
}

std::string problems(const Json& run) {
  std::string out;
  for (const Json& problem : run["problems"]) out += problem.get<std::string>() + '\n';
  return out;
}

TEST(ReportCommand, ShowsAWholeRun) {
  const Json data = shown({"whole"});
  ASSERT_EQ(data["runs"].size(), 1u);
  const Json& run = data["runs"][0];
  EXPECT_EQ(problems(run), "");
  EXPECT_EQ(run["title"], "tiny");
  EXPECT_EQ(run["ranks"], 2);
  EXPECT_EQ(run["steps"]["step"], (Json{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(run["validation"].size(), 2u);
  EXPECT_EQ(run["plan"]["plan_hash"], run["plan_hash"]);
  for (const Json& rank : run["rank_table"]) {
    EXPECT_EQ(rank["planned"]["memory"]["peak"], rank["measured"]["memory"]["peak"]);
    EXPECT_EQ(rank["traffic_as_planned"], 6);
  }
  EXPECT_EQ(run["wall"]["generations"].size(), 5u);
  EXPECT_LE(run["live"]["peak_bytes"].get<int64_t>(),
            run["rank_table"][0]["measured"]["memory"]["peak"].get<int64_t>());
  // The loss of the first line stands there digit for digit.
  const std::string metrics = file_text(place().path("whole") / "metrics" / "rank-00000.jsonl");
  EXPECT_NE(metrics.find("\"loss\":" + run["steps"]["loss"][0].dump()), std::string::npos);
}

TEST(ReportCommand, SaysWhatItMade) {
  const Outcome whole = report({"whole", "-o", "said.html"});
  EXPECT_EQ(whole.out.find("said.html: 1 run, "), 0u) << whole.out;
  EXPECT_EQ(whole.out.find("incomplete"), std::string::npos);
  fs::remove(copy_of_the_run("said") / "plan.txt");
  const Outcome two = report({"whole", "said", "-o", "said.html"});
  EXPECT_NE(two.out.find("2 runs, "), std::string::npos) << two.out;
  EXPECT_NE(two.out.find("; 1 incomplete, as the page says"), std::string::npos) << two.out;
}

TEST(ReportCommand, ShowsTheRestOfADamagedRun) {
  struct Damage {
    const char* what;
    void (*apply)(const fs::path& run);
    const char* problem;
    bool has_plan;
  };
  const std::vector<Damage> damages = {
      {"rank", [](const fs::path& run) { fs::remove(run / "metrics/rank-00001.jsonl"); },
       "metrics/rank-00001.jsonl is missing", true},
      {"metrics", [](const fs::path& run) { fs::remove_all(run / "metrics"); },
       "no rank has finished a step", true},
      {"torn",
       [](const fs::path& run) {
         const fs::path file = run / "metrics/rank-00000.jsonl";
         fs::resize_file(file, fs::file_size(file) - 5);
       },
       "ends within a line", true},
      {"plan", [](const fs::path& run) { fs::remove(run / "plan.txt"); }, "plan.txt is missing",
       true},
      {"environment", [](const fs::path& run) { fs::remove(run / "environment.json"); },
       "environment.json is missing", true},
      {"config",
       [](const fs::path& run) { write_text(run / "config.textproto", "model { num_layers: }"); },
       "its plan cannot be compiled again", false},
      {"hash",
       [](const fs::path& run) { edit(run / "config.textproto", "_size: 16", "_size: 32"); },
       "the run was made with plan", true},
  };
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.what);
    const std::string name = std::string("damaged-") + damage.what;
    damage.apply(copy_of_the_run(name));
    const Json run = shown({name})["runs"][0];
    EXPECT_NE(problems(run).find(damage.problem), std::string::npos) << problems(run);
    EXPECT_EQ(run.contains("live"), damage.has_plan);
    EXPECT_EQ(run["validation"].size(), 2u);
  }
}

TEST(ReportCommand, SaysThatARunIsNotFinished) {
  edit(copy_of_the_run("short") / "config.textproto", "\n  steps: 6", "\n  steps: 9");
  EXPECT_NE(problems(shown({"short"})["runs"][0]).find("the run is not finished: 6 of 9 steps"),
            std::string::npos);
}

// Runs of one plan share keys; another width is another model, and another stage another plan.
TEST(ReportCommand, TellsRunsOfDifferentPlansApart) {
  const auto train = [](const std::string& folder, const std::string& field) {
    const Outcome run = place().memwall(
        {"train", "tiny.textproto", "--set", field, "--run-dir", folder, "--set", "run.steps=2"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
  };
  train("narrow", "model.hidden_size=8");
  train("half", "precision.mode=FP16");
  copy_of_the_run("again");
  const Json runs = shown({"whole", "again", "narrow", "half"})["runs"];
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_EQ(runs[0]["plan_hash"], runs[1]["plan_hash"]);
  EXPECT_EQ(runs[0]["scaling_key"], runs[1]["scaling_key"]);
  EXPECT_NE(runs[0]["model_key"], runs[2]["model_key"]);
  EXPECT_EQ(runs[0]["model_key"], runs[3]["model_key"]);
  EXPECT_NE(runs[0]["plan_hash"], runs[3]["plan_hash"]);
  EXPECT_NE(runs[0]["scaling_key"], runs[3]["scaling_key"]);
}

TEST(ReportCommand, ShowsARunThatIsNamedTwiceOnce) {
  EXPECT_EQ(shown({"whole", "./whole", place().path("whole").string()})["runs"].size(), 1u);
}

TEST(ReportCommand, RefusesBadArguments) {
  fs::create_directories(place().path("empty"));
  fs::create_directories(place().path("sweep"));
  write_text(place().path("sweep/scale.json"), "{\"runs\": ");
  struct Bad {
    std::vector<std::string> words;
    const char* message;
  };
  const std::vector<Bad> all = {
      {{"nowhere", "-o", "x.html"}, "nowhere: no such run folder"},
      {{"tiny.textproto", "-o", "x.html"}, "tiny.textproto: no such run folder"},
      {{"empty", "-o", "x.html"}, "empty: is neither a run folder nor one of memwall scale"},
      {{"sweep", "-o", "x.html"}, "sweep/scale.json: is no JSON object with a list of runs"},
      {{"whole"}, "--output is required"},
      {{"-o", "x.html"}, "RUN is required"},
      {{"whole", "-o", "empty"}, "empty: is a folder"},
      {{"whole", "-o", "missing/x.html"}, "missing/x.html"},
      {{"whole", "-o", "x.html", "--cluster", "none.textproto"}, "none.textproto"},
  };
  for (const Bad& bad : all) {
    const Outcome outcome = report(bad.words);
    EXPECT_EQ(outcome.exit_code, 2) << bad.message << ": " << outcome.err;
    EXPECT_NE(outcome.err.find(bad.message), std::string::npos) << outcome.err;
    EXPECT_FALSE(fs::exists(place().path("x.html"))) << bad.message;
  }
}

// A sweep's list, by hand: one run that is there, one that is gone, one that failed.
TEST(ReportCommand, ShowsASweepWithItsRuns) {
  copy_of_the_run("swept/ranks-2-stage-0");
  write_text(place().path("swept/scale.json"), R"({"config": "c", "scaling": "weak", "runs": [
    {"ranks": 2, "zero_stage": 0, "run": "ranks-2-stage-0", "status": "done"},
    {"ranks": 4, "zero_stage": 0, "run": "ranks-4-stage-0", "status": "done"},
    {"ranks": 8, "zero_stage": 0, "run": "", "status": "failed", "error": "why"}]})");
  const Json data = shown({"swept"});
  ASSERT_EQ(data["runs"].size(), 1u);
  EXPECT_EQ(data["runs"][0]["sweep"], "swept");
  const Json& runs = data["scales"][0]["runs"];
  EXPECT_FALSE(runs[0].contains("problem"));
  EXPECT_EQ(runs[1]["problem"], "its run folder is missing");
  EXPECT_EQ(runs[2]["error"], "why");
}

TEST(ReportCommand, ComparesWithADescribedMachine) {
  const std::string machine =
      std::string(MEMWALL_SOURCE_DIR) + "/configs/clusters/cpu-host.textproto";
  const Json run = shown({"whole", "--cluster", machine})["runs"][0];
  const double predicted = run["prediction"]["predicted_seconds"].get<double>();
  const double measured = run["prediction"]["measured_seconds"].get<double>();
  EXPECT_GT(predicted, 0.0);
  EXPECT_NEAR(run["prediction"]["error"].get<double>(), predicted / measured - 1.0, 1e-12);
  EXPECT_EQ(run["wall"]["generations"].size(), 6u);
}

size_t events(const std::string& file) {
  return Json::parse(file_text(place().path(file)))["traceEvents"].size();
}

TEST(ReportCommand, JoinsTheRanksTraces) {
  const Outcome outcome = report({"whole", "-o", "page.html", "--trace", "trace.json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(events("trace.json"),
            events("whole/trace/rank-00000.json") + events("whole/trace/rank-00001.json"));
  const Json trace = Json::parse(file_text(place().path("trace.json")));
  std::set<int> ranks;
  for (const Json& event : trace["traceEvents"]) ranks.insert(event["pid"].get<int>());
  EXPECT_EQ(ranks, (std::set<int>{0, 1}));
}

TEST(ReportCommand, DoesNotMixTracesOfDifferentPlans) {
  const fs::path run = copy_of_the_run("mixed");
  const std::string hash = shown({"mixed"})["runs"][0]["plan_hash"];
  edit(run / "trace/rank-00001.json", hash, "0123456789abcdef");
  const Outcome refused = report({"mixed", "-o", "page.html", "--trace", "trace.json"});
  EXPECT_EQ(refused.exit_code, 2);
  for (const std::string& part : {std::string("rank-00001.json"), std::string("0123456789abcdef"),
                                  std::string("rank-00000.json"), hash}) {
    EXPECT_NE(refused.err.find(part), std::string::npos) << part << " in\n" << refused.err;
  }
  EXPECT_NE(problems(shown({"mixed"})["runs"][0]).find("not of this run's plan"),
            std::string::npos);
  fs::remove(run / "trace/rank-00001.json");
  const Outcome fewer = report({"mixed", "-o", "page.html", "--trace", "trace.json"});
  EXPECT_EQ(fewer.exit_code, 2);
  EXPECT_NE(fewer.err.find("traces of 1 ranks, and the run had 2"), std::string::npos) << fewer.err;
  const Outcome two = report({"whole", "mixed", "-o", "page.html", "--trace", "trace.json"});
  EXPECT_EQ(two.exit_code, 2);
  EXPECT_NE(two.err.find("--trace"), std::string::npos) << two.err;
}

}  // namespace
}  // namespace memwall::test
