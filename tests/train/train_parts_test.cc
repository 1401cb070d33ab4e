// The trainer's small parts: requests, line files, exact numbers, progress.
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <limits>

#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"
#include "runtime/train/line_file.h"
#include "runtime/train/metrics.h"
#include "runtime/train/progress.h"
#include "runtime/train/requests.h"
#include "tests/data/temporary_folder.h"
#include "tests/train/file_limit.h"

namespace memwall::test {
namespace {

TEST(Requests, SumsOverRanksDecode) {
  const double none = encode({}), save = encode({true, false}), stop = encode({false, true});
  const auto decoded = [](double sum) {
    const StepRequests r = decode_requests(sum);
    return std::pair(r.save, r.stop);
  };
  EXPECT_EQ(decoded(none), std::pair(false, false));
  EXPECT_EQ(decoded(none + save), std::pair(true, false));
  EXPECT_EQ(decoded(0x1.0p19 * save), std::pair(true, false));
  EXPECT_EQ(decoded(stop + none), std::pair(true, true));  // stopping saves
  EXPECT_EQ(decoded(0x1.0p19 * (save + stop)), std::pair(true, true));
}

int foreign_signals = 0;
void foreign_handler(int) {
  ++foreign_signals;
}

TEST(Requests, SignalsAskAndTheHandlersBeforeComeBack) {
  ASSERT_NE(signal(SIGUSR1, foreign_handler), SIG_ERR);
  {
    RequestSignals outer;
    raise(SIGUSR1);
    {
      RequestSignals inner;
      EXPECT_TRUE(inner.pending().stop);
      raise(SIGUSR2);
    }
    EXPECT_TRUE(outer.pending().save);
    outer.saved();
    EXPECT_FALSE(outer.pending().save);
    EXPECT_TRUE(outer.pending().stop);
  }
  EXPECT_EQ(foreign_signals, 0);
  raise(SIGUSR1);
  EXPECT_EQ(foreign_signals, 1);
  EXPECT_FALSE(RequestSignals().pending().stop);
  signal(SIGUSR1, SIG_DFL);
}

std::string line(int64_t step) {
  return "{\"step\":" + std::to_string(step) + ",\"loss\":1.5}";
}

TEST(LineFile, CutsWhatFollowsTheStep) {
  const TemporaryFolder folder;
  const std::string whole = line(1) + "\n" + line(2) + "\n" + line(3) + "\n";
  const std::string kept = line(1) + "\n" + line(2) + "\n";
  for (const std::string& before :
       {kept, whole, kept + "{\"ste", kept + line(2).substr(0, 12), kept + "junk\n" + line(2)}) {
    const std::string path = folder.write("lines", before);
    LineFile file(path, 2);
    EXPECT_EQ(contents_of(path), kept) << before;
    file.append(line(3));
    EXPECT_EQ(contents_of(path), whole);
  }
  const std::string path = folder.write("lines", whole);
  LineFile fresh(path, 0);
  EXPECT_EQ(contents_of(path), "");
}

TEST(LineFile, AFullDiskLeavesWholeLinesOnly) {
  const TemporaryFolder folder;
  LineFile file(folder.at("lines"), 0);
  const FileLimit limit(50);
  file.append(line(1));
  try {
    for (int64_t step = 2; step < 10; ++step) file.append(line(step));
    FAIL() << "the limit was passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kFailed);
    EXPECT_NE(std::string(error.what()).find("lines: cannot write: "), std::string::npos);
  }
  EXPECT_EQ(contents_of(folder.at("lines")), line(1) + "\n" + line(2) + "\n");
}

TEST(Exact, NumbersReadBack) {
  for (double value : {0.1 + 0.2, 1.0 / 3.0, 5e-324, 1e308, -0.0, 123456789012345680.0}) {
    const double back = nlohmann::json::parse(exact(value).dump()).get<double>();
    EXPECT_EQ(std::memcmp(&back, &value, sizeof(value)), 0) << value;
  }
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(exact(std::nan("")).dump(), "\"nan\"");
  EXPECT_EQ(exact(infinity).dump(), "\"inf\"");
  EXPECT_EQ(exact(-infinity).dump(), "\"-inf\"");
}

TEST(PlanJson, HoldsTheInterfacesKeys) {
  GptSpec spec;
  spec.layers = 12;
  spec.hidden = 32;
  spec.heads = 2;
  spec.context = spec.time = 16;
  spec.vocabulary = 61;
  CompileSettings settings;
  settings.ranks = 4;
  settings.zero_stage = 3;
  const Plan plan = compile(Gpt2(spec), settings);
  const nlohmann::ordered_json json = plan_json(plan, 1e18);
  EXPECT_EQ(json["parameters"], plan.parameters);
  EXPECT_EQ(json["ranks"], 4);
  EXPECT_EQ(json["zero_stage"], 3);
  EXPECT_EQ(json["plan_hash"].get<std::string>().size(), 16u);
  EXPECT_EQ(json["memory"]["peak"], round_up(plan.arena_bytes, plan.page_bytes));
  EXPECT_EQ(json["memory"]["lower_bound"], plan.totals.lower_bound);
  EXPECT_EQ(json["transport"], "MPI");
  EXPECT_EQ(json["memory"]["windows"], 0);
  EXPECT_EQ(json["memory"]["communication"],
            plan.totals.at_peak[static_cast<size_t>(Category::kCommunication)]);
  EXPECT_EQ(json["traffic"]["reduce_scatter"]["calls"], 14);
  EXPECT_EQ(json["flops"]["model"], plan.totals.model_flops);
  EXPECT_EQ(json["flops"]["run_total"], 1e18);
  EXPECT_EQ(json["padding"], plan.totals.padding_bytes);
  EXPECT_TRUE(json["communication_buffers"].contains("block*/gather/cotangent"));
  EXPECT_FALSE(json["communication_buffers"].contains("block11/gather/cotangent"));
}

TEST(Progress, SaysWhatMatters) {
  ProgressLine line;
  line.step = 120;
  line.steps = 2000;
  line.loss = 2.34512;
  line.learning_rate = 9.98e-4;
  line.tokens_per_second = 45210;
  line.utilisation = 0.4312;
  line.arena_bytes = 12'900'000;
  line.remaining_seconds = 130;
  EXPECT_EQ(progress_text(line),
            "step  120/2000  loss 2.3451  lr 9.98e-04  45.2k tok/s  43.1% of peak  12.3 MiB  "
            "ETA 2:10");
  EXPECT_EQ(duration_text(3730), "1:02:10");
}

}  // namespace
}  // namespace memwall::test
