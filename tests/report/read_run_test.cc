// What is read of run folders, whole and damaged: each damage is named, and the rest is there.
#include "runtime/report/read_run.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/data/temporary_folder.h"

namespace memwall::test {
namespace {

namespace fs = std::filesystem;

int64_t no_warm_up(int64_t) {
  return 0;
}
int64_t two_lines(int64_t lines) {
  return lines > 2 ? 2 : 0;
}

std::string line(int64_t step, double seconds, int64_t arena = 4096) {
  return "{\"step\":" + std::to_string(step) + ",\"loss\":2.5,\"grad_norm\":\"inf\",\"lr\":0.1," +
         "\"step_seconds\":" + std::to_string(seconds) + ",\"tokens_per_second\":64.0," +
         "\"planned\":{\"memory\":{\"peak\":4096},\"traffic\":{\"all_gather\":{\"wire_bytes\":7}}}"
         "," +
         "\"measured\":{\"memory\":{\"peak\":" + std::to_string(arena) + ",\"rss_anon\":9000}," +
         "\"traffic\":{\"all_gather\":{\"wire_bytes\":7}},\"seconds\":{\"compute\":0.5}}}\n";
}

class Folder {
 public:
  Folder() {
    fs::create_directories(files_.at("run/metrics"));
    write("config.textproto", "model {\n  num_layers: 2\n}\nrun {\n  name: \"x\"\n}\n");
    write("environment.json", R"({"ranks": 2, "hosts": ["a threads=1", "a threads=1"]})");
    write("plan.txt", "plan        gpt2, 0123456789abcdef\nparameters  5\n\nsteps\n");
    write("metrics/rank-00000.jsonl", line(1, 9.0) + line(2, 9.0) + line(3, 1.0) + line(4, 3.0));
    write("metrics/rank-00001.jsonl", line(1, 9.0) + line(2, 9.0) + line(3, 2.0) + line(4, 2.0));
  }
  void write(const std::string& name, const std::string& text) {
    files_.write("run/" + name, text);
  }
  void remove(const std::string& name) { fs::remove_all(files_.at("run/" + name)); }
  ReportedRun read(WarmUp warm_up = no_warm_up) const {
    return read_reported_run(files_.at("run"), warm_up);
  }

 private:
  TemporaryFolder files_;
};

// Exactly one problem, in which `part` stands.
void expect_problem(const ReportedRun& run, const std::string& part) {
  ASSERT_EQ(run.problems.size(), 1u) << part;
  EXPECT_NE(run.problems[0].find(part), std::string::npos)
      << "'" << part << "' is not in: " << run.problems[0];
}

TEST(ReadRun, AWholeFolderHasNoProblem) {
  const ReportedRun run = Folder().read(two_lines);
  EXPECT_EQ(run.problems, std::vector<std::string>{});
  EXPECT_EQ(run.ranks, 2);
  EXPECT_EQ(run.plan_hash, "0123456789abcdef");
  EXPECT_EQ(run.last_step, 4);
  ASSERT_EQ(run.rank_table.size(), 2u);
  EXPECT_EQ(run.rank_table[0]["typical"]["step_seconds"], 2.0);  // of 1 and 3
  EXPECT_EQ(run.rank_table[0]["typical"]["left_out"], 2);
  EXPECT_EQ(run.rank_table[1]["traffic_as_planned"], 4);
  EXPECT_EQ(run.steps["step"], (nlohmann::ordered_json{1, 2, 3, 4}));
  EXPECT_EQ(run.steps["wire_bytes"][0], 7);
  EXPECT_EQ(run.steps["grad_norm"][0], "inf");
  EXPECT_TRUE(run.steps["loss_scale"][0].is_null());
  EXPECT_EQ(run.steps["seconds"]["compute"][3], 0.5);
}

TEST(ReadRun, ResidentBytesStandWhereTheyChange) {
  Folder folder;
  std::string text;
  for (int64_t step = 1; step <= 9; ++step) text += line(step, 1.0, step < 5 ? 4096 : 8192);
  folder.write("metrics/rank-00000.jsonl", text);
  folder.write("metrics/rank-00001.jsonl", text);
  const auto resident = folder.read().rank_table[0]["resident"];
  EXPECT_EQ(resident["step"], (nlohmann::ordered_json{1, 4, 5, 9}));
  EXPECT_EQ(resident["arena"], (nlohmann::ordered_json{4096, 4096, 8192, 8192}));
}

TEST(ReadRun, NamesARankWithoutMetrics) {
  Folder folder;
  folder.remove("metrics/rank-00000.jsonl");
  const ReportedRun run = folder.read();
  expect_problem(run, "metrics/rank-00000.jsonl is missing: rank 0");
  ASSERT_EQ(run.rank_table.size(), 1u);
  EXPECT_EQ(run.steps["rank"], 1);
}

TEST(ReadRun, NamesFoldersWithoutAnyMetrics) {
  Folder folder;
  folder.remove("metrics");
  const ReportedRun run = folder.read();
  EXPECT_EQ(run.problems.size(), 3u);
  EXPECT_EQ(run.problems.back(), "no rank has finished a step");
  EXPECT_TRUE(run.steps.is_null());
}

TEST(ReadRun, NamesALineThatWasCutOff) {
  Folder folder;
  folder.write("metrics/rank-00001.jsonl",
               line(1, 9.0) + line(2, 9.0) + line(3, 2.0) + line(4, 1.0) + "{\"step\":5,\"los");
  const ReportedRun run = folder.read();
  expect_problem(run, "metrics/rank-00001.jsonl ends within a line");
  EXPECT_EQ(run.rank_table[1]["lines"], 4);
}

TEST(ReadRun, NamesADamagedLineByItsNumber) {
  Folder folder;
  for (const char* damage : {"{\"step\": 3, \"lo\n", "[1, 2]\n", "{\"step\": \"x\"}\n", "\n"}) {
    folder.write("metrics/rank-00001.jsonl", line(1, 9.0) + line(2, 9.0) + damage + line(4, 1.0));
    const ReportedRun run = folder.read();
    expect_problem(run, "metrics/rank-00001.jsonl:3: the line is no JSON of a step");
    EXPECT_EQ(run.rank_table[1]["lines"], 3);
  }
}

TEST(ReadRun, NamesRanksThatEndElsewhere) {
  Folder folder;
  folder.write("metrics/rank-00001.jsonl", line(1, 9.0) + line(2, 9.0));
  expect_problem(folder.read(), "rank 1 ends at step 2, where rank 0 ends at 4");
}

TEST(ReadRun, NamesMissingAndDamagedFiles) {
  Folder folder;
  folder.remove("plan.txt");
  ReportedRun run = folder.read();
  expect_problem(run, "plan.txt is missing");
  EXPECT_EQ(run.plan_hash, "");
  folder.write("plan.txt", "nothing\n");
  expect_problem(folder.read(), "plan.txt is damaged");
}

// plan.txt says how many ranks there were; without it there are as many as files of metrics.
TEST(ReadRun, CountsRanksWithoutTheEnvironment) {
  Folder folder;
  folder.remove("environment.json");
  ReportedRun run = folder.read();
  expect_problem(run, "environment.json is missing");
  EXPECT_EQ(run.ranks, 2);
  for (const char* damage : {"{\"ranks\":", "[]", "", "null"}) {
    folder.write("environment.json", damage);
    run = folder.read();
    expect_problem(run, "environment.json is damaged");
    EXPECT_TRUE(run.environment.is_null());
  }
  folder.write("environment.json", R"({"ranks": "many"})");
  EXPECT_EQ(folder.read().ranks, 2);
  folder.write("plan.txt", "plan        gpt2, 0123456789abcdef\nranks       3, ZeRO stage 1\n");
  EXPECT_EQ(folder.read().ranks, 3);
}

TEST(ReadRun, NamesAnEmptyConfiguration) {
  Folder folder;
  folder.write("config.textproto", "");
  expect_problem(folder.read(), "config.textproto");
}

TEST(ReadRun, KeepsTheLastOfManyLines) {
  Folder folder;
  std::string text;
  for (int64_t step = 1; step <= 2 * kMostLines + 1; ++step) text += line(step, 1.0);
  folder.write("metrics/rank-00000.jsonl", text);
  folder.write("metrics/rank-00001.jsonl", text);
  const ReportedRun run = folder.read();
  EXPECT_LE(run.steps["step"].size(), static_cast<size_t>(kMostLines));
  EXPECT_EQ(run.last_step, 2 * kMostLines + 1);
  ASSERT_EQ(run.problems.size(), 2u);
  EXPECT_NE(run.problems[0].find("has 4001 lines, of which one in 3 is shown"), std::string::npos)
      << run.problems[0];
}

TEST(ReadRun, ConfigurationFieldsHaveTheirWholeNames) {
  const auto fields = flat_config(
      "model {\n  num_layers: 2\n}\ndata {\n  tokens: \"a: {b}\"\n  tokens: \"c\"\n}\noptimizer {\n"
      "  adahessian {\n    block_size: 32\n  }\n  grad_clip: 1\n}\n");
  const std::vector<std::pair<std::string, std::string>> wanted = {
      {"model.num_layers", "2"},
      {"data.tokens", "\"a: {b}\""},
      {"data.tokens", "\"c\""},
      {"optimizer.adahessian.block_size", "32"},
      {"optimizer.grad_clip", "1"}};
  EXPECT_EQ(fields, wanted);
}

}  // namespace
}  // namespace memwall::test
