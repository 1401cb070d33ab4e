// `memwall bench machine` and `bench collectives --fit`: the description that they leave, and which
// files they refuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

class BenchMachine : public testing::Test {
 protected:
  Outcome machine(const std::string& file, int ranks, std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"bench",     "machine", "tiny.textproto", "--steps", "3",
                                      "--seconds", "0"};
    if (!file.empty()) words.insert(words.end(), {"--fit", file});
    words.insert(words.end(), more.begin(), more.end());
    return place.memwall(words, ranks);
  }
  Outcome collectives(const std::string& file, int ranks) const {
    return place.memwall({"bench", "collectives", "--rounds", "2", "--bytes", "64B", "--bytes",
                          "64KiB", "--fit", file, "--json"},
                         ranks);
  }
  Json simulate(const std::string& file, const std::string& ranks) const {
    const Outcome outcome = place.memwall(
        {"simulate", "tiny.textproto", "--cluster", file, "--ranks", ranks, "--json"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return Json::parse(outcome.out, nullptr, false);
  }
  // One line: what, where, and what is allowed.
  void expect_refused(const Outcome& outcome, const std::vector<std::string>& parts) const {
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    const size_t begin = outcome.err.find("memwall: ");
    ASSERT_NE(begin, std::string::npos) << outcome.err;
    const std::string line = outcome.err.substr(begin, outcome.err.find('\n', begin) - begin);
    for (const std::string& part : parts) EXPECT_NE(line.find(part), std::string::npos) << line;
    EXPECT_EQ(outcome.err.find("memwall: ", begin + 1), std::string::npos) << outcome.err;
  }
  int64_t lines_of_comment(const std::string& file) const {
    const std::string text = file_text(place.path(file));
    return std::count(text.begin(), text.end(), '#');
  }

  const Workplace place{"bench-machine"};
};

TEST_F(BenchMachine, OneRankIsDescribedAndAddedTo) {
  const Outcome first = machine("one.textproto", 0, {"--json"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const Json json = Json::parse(first.out);
  EXPECT_EQ(json["ranks"], 1);
  EXPECT_EQ(json["skew_seconds"], 0.0);
  EXPECT_GT(json["compute_seconds"], 0.0);
  EXPECT_GT(json["host_seconds"], 0.0);
  EXPECT_EQ(json["fit"], "one.textproto");
  double gemm = 0.0;
  for (const Json& op : json["ops"]) {
    EXPECT_GT(op["seconds"], 0.0) << op;
    EXPECT_GE(op["launches"], 1) << op;
    if (op["op"] == "gemm") gemm += op["flops"].get<double>();
  }
  EXPECT_GT(gemm, 0.0);
  // What it measured, it predicts: the step is the sum of its parts.
  const Json step = simulate("one.textproto", "1")["rows"][0]["step_seconds"];
  EXPECT_NEAR(step["compute"].get<double>(),
              json["compute_seconds"].get<double>() + json["host_seconds"].get<double>(),
              0.5 * step["compute"].get<double>());
  EXPECT_EQ(step["communication"], 0.0);
  // Again, and with other sizes: the file stays one that can be read.
  EXPECT_EQ(machine("one.textproto", 0).exit_code, 0);
  const auto size = fs::file_size(place.path("one.textproto"));
  EXPECT_EQ(machine("one.textproto", 0, {"--set", "model.hidden_size=32"}).exit_code, 0);
  EXPECT_GT(fs::file_size(place.path("one.textproto")), size + 500);
  EXPECT_EQ(lines_of_comment("one.textproto"), 3);
  simulate("one.textproto", "1");
  // Two ranks are another node.
  expect_refused(machine("one.textproto", 2),
                 {"one.textproto", "nodes of 1 ranks", "nodes of 2 ranks", "name another file"});
  EXPECT_EQ(lines_of_comment("one.textproto"), 3);
  // A run that follows the description.
  EXPECT_EQ(place
                .memwall({"train", "tiny.textproto", "--run-dir", "run", "--set",
                          "communication.cluster=one.textproto"})
                .exit_code,
            0);
  EXPECT_NE(file_text(place.path("run/config.textproto")).find("/one.textproto"),
            std::string::npos);
}

TEST_F(BenchMachine, TwoRanksHaveALink) {
  ASSERT_EQ(machine("two.textproto", 2, {"--set", "parallel.zero_stage=3"}).exit_code, 0);
  const double before = simulate("two.textproto", "2")["rows"][0]["step_seconds"]["communication"];
  EXPECT_GT(before, 0.0);
  const Outcome links = collectives("two.textproto", 2);
  ASSERT_EQ(links.exit_code, 0) << links.err;
  EXPECT_EQ(Json::parse(links.out)["ranks"], 2);
  const std::string text = file_text(place.path("two.textproto"));
  for (const char* part : {"collective: \"reduce_scatter\"", "algorithm: \"ring\"",
                           "transport: \"SHARED_MEMORY\"", "part_bytes: 65536", "devices: 2"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(lines_of_comment("two.textproto"), 2);
  EXPECT_NE(simulate("two.textproto", "2")["rows"][0]["step_seconds"]["communication"], before);
  EXPECT_EQ(collectives("two.textproto", 2).exit_code, 0);
  EXPECT_EQ(machine("two.textproto", 2).exit_code, 0);
  EXPECT_NE(file_text(place.path("two.textproto")).find("algorithm: \"ring\""), std::string::npos);
  EXPECT_EQ(lines_of_comment("two.textproto"), 4);
}

TEST_F(BenchMachine, FilesThatCannotBeUsedAreRefusedBeforeTheWork) {
  expect_refused(machine("no/folder.textproto", 0), {"no/folder.textproto", "lies in no folder"});
  expect_refused(machine(".", 0), {"cannot read the cluster"});
  write_text(place.path("damaged.textproto"), "device {");
  expect_refused(machine("damaged.textproto", 0), {"damaged.textproto:1"});
  write_text(place.path("other.textproto"),
             file_text(fs::path(MEMWALL_SOURCE_DIR) / "configs/clusters/cpu-host.textproto"));
  const std::string kept = file_text(place.path("other.textproto"));
  expect_refused(machine("other.textproto", 2),
                 {"other.textproto", "core of an AVX-512 Xeon", "name another file"});
  expect_refused(collectives("other.textproto", 2),
                 {"other.textproto", "core of an AVX-512 Xeon", "name another file"});
  EXPECT_EQ(file_text(place.path("other.textproto")), kept);
  expect_refused(collectives("none.textproto", 2),
                 {"none.textproto", "is not there", "memwall bench machine CONFIG --fit"});
  expect_refused(machine("", 0, {"--steps", "0"}), {"--steps"});
  EXPECT_EQ(machine("", 0).exit_code, 0);  // only shown
}

}  // namespace
}  // namespace memwall::test
