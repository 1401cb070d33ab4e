// Words that ask for something, and words that are wrong: exit codes and messages.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

class Command : public testing::Test {
 protected:
  // Exit code `code` and a message of at most five lines that holds every part.
  void expect_error(const Outcome& outcome, int code, const std::vector<std::string>& parts) {
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_TRUE(outcome.err.starts_with("memwall: ")) << outcome.err;
    EXPECT_LE(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 5) << outcome.err;
    for (const std::string& part : parts) {
      EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
    }
  }
  const Workplace place{"command"};
};

TEST_F(Command, HelpAndVersion) {
  const Outcome version = place.memwall({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(version.out.starts_with("memwall 0.")) << version.out;
  EXPECT_EQ(place.memwall({"--help"}).exit_code, 0);
  const std::vector<std::vector<std::string>> verbs = {
      {"train", "CONFIG", "--set", "--run-dir", "--resume"},
      {"plan", "CONFIG", "--ranks", "--set", "--json", "--dump", "--check", "--cluster"},
      {"simulate", "CONFIG", "--cluster", "--ranks", "--what-if", "--algorithm", "--set", "--json"},
      {"fit", "CONFIG", "--ranks", "--budget", "--vary", "--set", "--json"},
      {"eval", "RUN", "--json"},
      {"generate", "RUN", "--prompt", "--tokens", "--temperature", "--top-k", "--top-p", "--seed"},
      {"export", "RUN", "FOLDER"},
      {"show", "RUN", "--json"}};
  for (const auto& verb : verbs) {
    const Outcome help = place.memwall({verb[0], "--help"});
    EXPECT_EQ(help.exit_code, 0);
    for (size_t i = 1; i < verb.size(); ++i) {
      EXPECT_NE(help.out.find(verb[i]), std::string::npos) << verb[i] << " in\n" << help.out;
    }
  }
}

TEST_F(Command, WrongWords) {
  const std::string verbs = "train, plan, fit, eval, generate, export, show";
  expect_error(place.memwall({}), 2, {verbs});
  expect_error(place.memwall({"fti"}), 2, {"'fti'", verbs});
  expect_error(place.memwall({"train"}), 2, {"CONFIG"});
  expect_error(place.memwall({"train", "tiny.textproto", "--no-such"}), 2, {"--no-such"});
  expect_error(place.memwall({"eval"}), 2, {"RUN"});
  expect_error(place.memwall({"plan", "tiny.textproto"}), 2, {"--ranks"});
  expect_error(place.memwall({"plan", "--ranks", "2"}), 2, {"CONFIG"});
  expect_error(place.memwall({"plan", "tiny.textproto", "--ranks", "none"}), 2, {"--ranks"});
  expect_error(place.memwall({"plan", "tiny.textproto", "--ranks", "0"}), 2, {"--ranks"});
  expect_error(place.memwall({"plan", "tiny.textproto", "--ranks", "2", "--json", "--dump"}), 2,
               {"--json", "--dump"});
  expect_error(place.memwall({"plan", "tiny.textproto", "--ranks", "2", "--cluster", "c"}), 2,
               {"c: cannot read the cluster"});
}

TEST_F(Command, WrongConfiguration) {
  expect_error(place.memwall({"train", "missing.textproto"}), 2, {"missing.textproto"});
  const auto with = [&](const std::string& set) {
    return place.memwall({"train", "tiny.textproto", "--set", set});
  };
  expect_error(with("model.num_layer=3"), 2, {"num_layer"});
  expect_error(with("model.num_layers=many"), 2, {"model.num_layers", "many"});
  expect_error(with("model.num_heads=3"), 2, {"num_heads"});
  expect_error(with("data.global_batch_size=5"), 2, {"global_batch_size"});
  expect_error(with("run.device=CUDA"), 2, {"run.device"});
  expect_error(with("nonsense"), 2, {"nonsense"});
  // Each --set takes one word: what follows is not another override.
  expect_error(place.memwall({"train", "tiny.textproto", "--set", "run.steps=1", "run.seed=2"}), 2,
               {"run.seed=2"});
  write_text(place.path("bad.textproto"), "model {\n  hiden_size: 3\n}\n");
  expect_error(place.memwall({"train", "bad.textproto"}), 2, {"bad.textproto:2", "hiden_size"});
  EXPECT_FALSE(fs::exists(place.path("runs")));
}

TEST_F(Command, WrongData) {
  expect_error(place.memwall({"train", "tiny.textproto", "--set", "data.text=missing.txt"}), 2,
               {"missing.txt"});
  write_text(place.path("bad.txt"), std::string(500, 'a') + "\xFF" + std::string(500, 'a'));
  expect_error(place.memwall({"train", "tiny.textproto", "--set", "data.text=bad.txt"}), 2,
               {"bad.txt", "500", "UTF-8"});
  EXPECT_FALSE(fs::exists(place.path("runs")));
}

TEST_F(Command, OverBudget) {
  const Outcome plan =
      place.memwall({"plan", "tiny.textproto", "--ranks", "2", "--set", "memory.budget=100KiB"});
  expect_error(plan, 3, {"memory.budget", "largest consumers"});
  EXPECT_NE(plan.out.find("optimizer_state"), std::string::npos) << "the plan is still shown";
  expect_error(place.memwall({"train", "tiny.textproto", "--set", "memory.budget=100KiB"}), 3,
               {"memory.budget", "largest consumers"});
  EXPECT_FALSE(fs::exists(place.path("runs")));
}

TEST_F(Command, ErrorsOfSeveralRanksArePrintedOnce) {
  for (const auto& [set, code] : {std::pair{"model.num_heads=3", 2}, {"memory.budget=9KiB", 3}}) {
    const Outcome outcome = place.memwall({"train", "tiny.textproto", "--set", set}, 2);
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    const size_t first = outcome.err.find("memwall: ");
    EXPECT_NE(first, std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("memwall: ", first + 1), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("terminated while"), std::string::npos) << outcome.err;
  }
  const Outcome verb = place.memwall({"fti"}, 2);
  EXPECT_EQ(verb.exit_code, 2);
  EXPECT_EQ(verb.err.find("'fti'"), verb.err.rfind("'fti'")) << verb.err;
}

TEST_F(Command, AFullDiskBehindStandardOutputIsAnError) {
  const std::string line = std::string(MEMWALL_BINARY) + " plan " + place.config().string() +
                           " --ranks 2 >/dev/full 2>" + place.path("err.log").string();
  const int status = std::system(line.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_NE(file_text(place.path("err.log")).find("standard output"), std::string::npos);
}

TEST_F(Command, WrongRuns) {
  for (const std::string verb : {"eval", "show"}) {
    expect_error(place.memwall({verb, "nowhere"}), 2, {"nowhere"});
    expect_error(place.memwall({verb, "."}), 2, {"run"});
  }
  expect_error(place.memwall({"generate", ".", "--prompt", "x"}), 2, {"run"});
  expect_error(place.memwall({"export", ".", "out"}), 2, {"run"});
  fs::create_directory(place.path("unsaved"));
  fs::copy_file(place.config(), place.path("unsaved/config.textproto"));
  expect_error(place.memwall({"eval", "unsaved"}), 2, {"unsaved", "checkpoint"});
}

}  // namespace
}  // namespace memwall::test
