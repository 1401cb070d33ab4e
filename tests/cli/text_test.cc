// What people read: numbers, tables, plans, and text that streams.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "runtime/cli/job.h"
#include "runtime/cli/plan_text.h"
#include "runtime/cli/rank_tables.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/utf8_stream.h"
#include "runtime/data/utf8.h"
#include "runtime/passes/compile.h"

namespace memwall {
namespace {

TEST(Numbers, Bytes) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(int64_t{5} << 30), "5.0 GiB");
}

TEST(Numbers, Counts) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(-1000), "-1,000");
  EXPECT_EQ(count_text(124439808), "124,439,808");
}

TEST(Numbers, Amounts) {
  EXPECT_EQ(amount_text(0.0), "0");
  EXPECT_EQ(amount_text(999.9), "1 k");
  EXPECT_EQ(amount_text(1.234e12), "1.23 T");
}

TEST(TextTable, AlignsColumnsAndEndsLinesCleanly) {
  TextTable table({"memory", "rank 0", "1"});
  table.add({"peak", "5", "12345"});
  table.add({"x"});
  EXPECT_EQ(table.text(),
            "memory  rank 0      1\n"
            "peak         5  12345\n"
            "x\n");
  EXPECT_EQ(table.text(TextTable::Align::kLeft),
            "memory  rank 0  1\n"
            "peak    5       12345\n"
            "x\n");
}

TEST(Utf8Stream, HoldsBackHalfACharacter) {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
  Utf8Stream stream;
  std::string out;
  for (const char c : text) {
    const std::string piece = stream.push(std::string(1, c));
    EXPECT_FALSE(find_invalid_utf8(std::as_bytes(std::span(piece)))) << "half a character";
    out += piece;
  }
  EXPECT_EQ(out + stream.finish(), text);
}

TEST(Utf8Stream, ReplacesWhatIsNoCharacter) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xFF"), "a\xEF\xBF\xBD");
  EXPECT_EQ(stream.push("\xC3"), "");
  EXPECT_EQ(stream.push("b"),
            "\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(stream.push("\xED"), "");
  EXPECT_EQ(stream.push("\xA0"), "\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  EXPECT_EQ(stream.push("\xF0\x9F"), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(ErrorText, IsAtMostFiveLines) {
  EXPECT_EQ(error_text("one"), "memwall: one");
  EXPECT_EQ(error_text("1\n2\n3\n4\n5"), "memwall: 1\n2\n3\n4\n5");
  EXPECT_EQ(error_text("1\n2\n3\n4\n5\n6\n7"), "memwall: 1\n2\n3\n4\n5");
}

TEST(RankTables, ShowEveryRankPlannedAndMeasured) {
  std::vector<nlohmann::ordered_json> lines;
  for (int64_t rank = 0; rank < 5; ++rank) {
    lines.push_back(nlohmann::ordered_json::parse(R"({
      "planned": {"memory": {"parameters": 1024, "peak": 4096, "maximum": {"parameters": 9}},
                  "traffic": {"all_gather": {"calls": 3, "payload_bytes": 2048}}},
      "measured": {"memory": {"peak": 8192, "outside": {"gemm scratch": 512}},
                   "traffic": {"all_gather": {"calls": 3, "payload_bytes": 2048}}}})"));
  }
  lines[4]["measured"]["memory"]["peak"] = 40960;
  const std::string text = rank_tables(lines);
  for (const char* part : {"0 planned", "4 measured", "outside gemm scratch", "40.0 KiB", "512 B",
                           "all_gather payload_bytes", "2.0 KiB"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << '\n' << text;
  }
  EXPECT_EQ(text.find("maximum"), std::string::npos);
}

TEST(RankTables, ShowWhereTheTimeWent) {
  const std::filesystem::path file =
      std::filesystem::path(testing::TempDir()) / "memwall-mean-seconds.jsonl";
  const auto line = [](double total, double compute, double wait) {
    const nlohmann::json seconds = {{"total", total},        {"compute", compute},
                                    {"progress", 0.5},       {"exposed_communication", 0.25},
                                    {"wait", wait},          {"update", 0.25},
                                    {"input", 0.0},          {"other", 0.0},
                                    {"communication", 1.25}, {"micro_steps", 3.5}};
    return nlohmann::json{{"measured", {{"seconds", seconds}}}}.dump() + '\n';
  };
  {
    std::ofstream out(file);
    out << line(100.0, 98.0, 1.0);  // before the last ten
    for (int i = 0; i < 5; ++i) out << line(4.0, 2.0, 1.0) << line(6.0, 2.0, 3.0);
    out << "{\"measured\"";
  }
  const auto mean = mean_seconds(file);
  EXPECT_EQ(mean.at("steps"), 10);
  EXPECT_DOUBLE_EQ(mean.at("total"), 5.0);
  EXPECT_EQ(
      seconds_table({mean, mean}),
      "last 10 steps, by rank  seconds  compute  progress  exposed    wait  update  input  other\n"
      "0                             5   40.0 %    10.0 %    5.0 %  40.0 %   5.0 %  0.0 %  0.0 %\n"
      "1                             5   40.0 %    10.0 %    5.0 %  40.0 %   5.0 %  0.0 %  0.0 "
      "%\n");
  // A run of before, a damaged line, no line.
  for (const char* text : {"{\"measured\":{\"seconds\":{\"total\":1.0}}}\n", "{\n", "7\n", ""}) {
    std::ofstream(file) << text;
    EXPECT_TRUE(mean_seconds(file).is_null()) << text;
  }
  EXPECT_EQ(seconds_table({mean, {}}), "");
  EXPECT_EQ(seconds_table({}), "");
  std::filesystem::remove(file);
}

TEST(RankTables, ReadTheLastCompleteLine) {
  const std::string path = testing::TempDir() + "memwall-cli-lines.jsonl";
  std::ofstream(path) << "{\"step\":1}\n{\"step\":2}\n{\"st";
  EXPECT_EQ(last_metrics_line(path), "{\"step\":2}");
  std::ofstream(path) << "";
  EXPECT_EQ(last_metrics_line(path), "");
  std::filesystem::remove(path);
  EXPECT_EQ(last_metrics_line(path), "");
}

TEST(PlanText, NamesWhatItShows) {
  const GptSpec spec{.layers = 2,
                     .hidden = 64,
                     .heads = 2,
                     .context = 64,
                     .vocabulary = 256,
                     .batch = 2,
                     .time = 32};
  CompileSettings settings;
  settings.ranks = 4;
  settings.zero_stage = 3;
  settings.micro_steps = 3;
  const Plan plan = compile(Gpt2(spec), settings);
  const std::string summary = plan_summary(plan, {"tiny", spec, 10});
  for (const char* part : {"tiny", "4, ZeRO stage 3", "3 micro-steps", "768 tokens", "parameters",
                           "gathered_parameters", "reduce_scatter", "model FLOPs", "(10 steps)"}) {
    EXPECT_NE(summary.find(part), std::string::npos) << part << '\n' << summary;
  }
  EXPECT_DOUBLE_EQ(run_flops(plan, 10), 40.0 * static_cast<double>(plan.totals.model_flops));
  const std::string listing = plan_listing(plan);
  for (const Program& program : plan.programs) {
    EXPECT_NE(listing.find("program " + program.name + ":"), std::string::npos);
    for (const Step& step : program.steps) {
      EXPECT_NE(listing.find(step.name), std::string::npos) << step.name;
    }
  }
}

}  // namespace
}  // namespace memwall
