// Traces of real training steps, read back: every step of the plan, in order, on one time line.
#include "runtime/train/trace.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "runtime/base/hash.h"
#include "tests/train/train_fixture.h"

namespace memwall::test {
namespace {

using nlohmann::json;

struct Slice {
  std::string name;
  double begin = 0.0, end = 0.0;  // us
  json args;
};

// The slices of a thread of a rank in a step, as they stand in the file.
std::vector<Slice> slices(const json& trace, int64_t tid, int64_t step) {
  std::vector<Slice> out;
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X" || event.at("tid") != tid) continue;
    if (event.at("args").at("step") != step) continue;
    const double begin = event.at("ts");
    out.push_back(
        {event.at("name"), begin, begin + event.at("dur").get<double>(), event.at("args")});
  }
  return out;
}

std::vector<std::string> names_of(const std::vector<Slice>& slices) {
  std::vector<std::string> names;
  for (const Slice& slice : slices) names.push_back(slice.name);
  return names;
}

std::vector<std::string> planned_names(const Plan& plan, Stream stream) {
  std::vector<std::string> names;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, false)) {
    for (const Step& step : plan.program(run.program).steps) {
      if (step.stream == stream) names.push_back(step.name);
    }
  }
  return names;
}

constexpr double kRounding = 0.002;  // us: times are written to the nanosecond

void expect_disjoint_inside(const std::vector<Slice>& slices, const Slice& whole) {
  double until = whole.begin;
  for (const Slice& slice : slices) {
    EXPECT_GE(slice.begin, until - kRounding) << slice.name;
    EXPECT_GE(slice.end, slice.begin) << slice.name;
    EXPECT_LE(slice.end, whole.end + kRounding) << slice.name;
    until = slice.end;
  }
}

json trace_of(const std::string& run_dir, const std::string& rank) {
  return json::parse(contents_of(run_dir + "/trace/" + rank + ".json"));
}

void check_step(const json& trace, const Plan& plan, int64_t step, const json& seconds) {
  const std::vector<Slice> nest = slices(trace, 4, step);
  ASSERT_FALSE(nest.empty());
  const Slice& whole = nest.front();
  EXPECT_EQ(whole.name, "step " + std::to_string(step));
  EXPECT_NEAR((whole.end - whole.begin) / 1e6, seconds.at("total").get<double>(), 1e-8);
  std::vector<std::string> programs;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, false)) {
    if (run.program != "update") programs.emplace_back("input");
    programs.emplace_back(run.program);
  }
  EXPECT_EQ(names_of({nest.begin() + 1, nest.end()}), programs);
  expect_disjoint_inside({nest.begin() + 1, nest.end()}, whole);

  const std::vector<Slice> computes = slices(trace, 0, step), transfers = slices(trace, 1, step),
                           waits = slices(trace, 2, step), progress = slices(trace, 3, step);
  EXPECT_EQ(names_of(computes), planned_names(plan, Stream::kCompute));
  EXPECT_EQ(names_of(transfers), planned_names(plan, Stream::kCommunication));
  for (const auto& thread : {computes, transfers, waits, progress}) {
    expect_disjoint_inside(thread, whole);
  }
  // One thread: it computes or waits.
  double compute = 0.0, wait = 0.0, exposed = 0.0;
  for (const Slice& slice : computes) compute += slice.end - slice.begin;
  for (const Slice& slice : waits) {
    const bool at_the_end = !slice.args.contains("exposed_us");
    wait += at_the_end ? slice.end - slice.begin : slice.args.at("wait_us").get<double>();
    exposed += at_the_end ? 0.0 : slice.args.at("exposed_us").get<double>();
    for (const Slice& other : computes) {
      EXPECT_TRUE(slice.end <= other.begin + kRounding || slice.begin >= other.end - kRounding)
          << slice.name << " and " << other.name;
    }
  }
  EXPECT_NEAR(compute / 1e6,
              seconds.at("compute").get<double>() + seconds.at("update").get<double>(), 1e-7);
  EXPECT_NEAR(wait / 1e6, seconds.at("wait").get<double>(), 1e-7);
  EXPECT_NEAR(exposed / 1e6, seconds.at("exposed_communication").get<double>(), 1e-7);
  int64_t flops = 0;
  for (const Slice& slice : computes) flops += slice.args.at("flops").get<int64_t>();
  int64_t planned = 0;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, false)) {
    for (const Step& s : plan.program(run.program).steps) planned += s.flops;
  }
  EXPECT_EQ(flops, planned);
}

// Every arrow leads from a transfer to a later step.
void check_arrows(const json& trace, bool alone) {
  std::map<int64_t, double> starts;
  size_t ends = 0;
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "s") {
      EXPECT_EQ(event.at("tid"), 1);
      EXPECT_TRUE(starts.emplace(event.at("id"), event.at("ts")).second);
    }
  }
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "f") continue;
    ++ends;
    EXPECT_EQ(event.at("tid"), 0);
    ASSERT_TRUE(starts.contains(event.at("id"))) << event;
    EXPECT_GE(event.at("ts").get<double>(), starts.at(event.at("id")));
  }
  EXPECT_EQ(ends > 0, !alone);
}

// On one time line a transfer ends nowhere before the last rank has started it.
void check_ranks_against_each_other(const std::string& run_dir, int64_t step) {
  std::vector<std::vector<Slice>> ranks;
  for (int rank = 0; rank < world().size(); ++rank) {
    const json trace = trace_of(run_dir, "rank-0000" + std::to_string(rank));
    ranks.push_back(slices(trace, 1, step));
    EXPECT_EQ(trace.at("traceEvents").at(0).at("pid"), rank);
    EXPECT_EQ(trace.at("traceEvents")
                  .at(0)
                  .at("args")
                  .at("name")
                  .get<std::string>()
                  .find("rank " + std::to_string(rank) + " on "),
              0u);
  }
  constexpr double kClocks = 1000.0;  // us: the test of clocks allows for so much
  for (size_t i = 0; i < ranks[0].size(); ++i) {
    double last_started = 0.0;
    for (const auto& rank : ranks) {
      last_started = std::max(last_started, rank[i].args.at("started_us").get<double>());
    }
    for (const auto& rank : ranks) {
      EXPECT_GE(rank[i].end, last_started - kClocks) << rank[i].name;
      EXPECT_NEAR(rank[i].args.at("last_started_us").get<double>(), last_started, kClocks);
    }
  }
}

class Traces : public testing::TestWithParam<TinySettings> {};

TEST_P(Traces, HoldEveryStepOfThePlanOnce) {
  const SharedFolder folder;
  Launch launch(folder, GetParam());
  launch.settings.steps = 4;
  launch.settings.trace_first_step = 2;
  launch.settings.trace_last_step = 3;
  launch.train();
  world().barrier();
  EXPECT_EQ(names_in(folder.at("trace")).size(), static_cast<size_t>(world().size()));
  const json trace = trace_of(folder.path(), rank_name());
  EXPECT_EQ(trace.at("otherData").at("plan_hash"), hash_hex(launch.settings.plan_hash));
  const auto lines = json_lines(folder.path() + "/metrics/" + rank_name() + ".jsonl");
  ASSERT_EQ(lines.size(), 4u);
  for (const int64_t step : {2, 3}) {
    check_step(trace, launch.plan(), step,
               lines[static_cast<size_t>(step - 1)].at("measured").at("seconds"));
    check_ranks_against_each_other(folder.path(), step);
  }
  for (const int64_t step : {1, 4}) EXPECT_TRUE(slices(trace, 4, step).empty());
  check_arrows(trace, world().size() == 1);
}

INSTANTIATE_TEST_SUITE_P(Plans, Traces,
                         testing::Values(TinySettings{.stage = 0},
                                         TinySettings{.stage = 1, .micro_steps = 2},
                                         TinySettings{.stage = 3, .micro_steps = 2},
                                         TinySettings{.stage = 3, .prefetch_depth = 2}));

TEST(Trace, ARunThatStopsInsideTheRangeLeavesWhatThereIs) {
  const SharedFolder folder;
  Launch launch(folder, {.stage = 2});
  launch.settings.trace_first_step = 1;
  launch.settings.trace_last_step = 5;
  launch.settings.time_limit_seconds = 1e-6;
  EXPECT_EQ(launch.train().step, 1);
  world().barrier();
  EXPECT_FALSE(slices(trace_of(folder.path(), rank_name()), 4, 1).empty());
}

TEST(Trace, AFolderThatCannotBeIsAnErrorOnAllRanks) {
  const SharedFolder folder;
  if (world().rank() == 0) std::ofstream(folder.at("trace")) << "a file";
  world().barrier();
  Launch launch(folder, {});
  launch.settings.trace_first_step = launch.settings.trace_last_step = 1;
  const std::string message = error_of([&] { launch.train(); }, ExitCode::kFailed);
  EXPECT_NE(message.find("/trace: cannot create"), std::string::npos) << message;
}

TEST(Metrics, SecondsAddUpToTheStep) {
  const SharedFolder folder;
  Launch launch(folder, {.stage = 3, .micro_steps = 2});
  launch.train();
  EXPECT_FALSE(fs::exists(folder.at("trace")));
  for (const json& line : json_lines(folder.path() + "/metrics/" + rank_name() + ".jsonl")) {
    const json& seconds = line.at("measured").at("seconds");
    int64_t sum = 0;
    for (const char* part :
         {"input", "compute", "progress", "exposed_communication", "wait", "update", "other"}) {
      const double value = seconds.at(part);
      EXPECT_GE(value, 0.0) << part;
      sum += std::llround(value * 1e9);
    }
    EXPECT_EQ(sum, std::llround(seconds.at("total").get<double>() * 1e9));
    EXPECT_EQ(seconds.at("total"), line.at("step_seconds"));
    EXPECT_LE(seconds.at("communication"), seconds.at("total"));
    EXPECT_EQ(seconds.at("communication").get<double>() > 0.0, world().size() > 1);
    EXPECT_GE(seconds.at("micro_steps").get<double>(), seconds.at("compute").get<double>());
  }
}

}  // namespace
}  // namespace memwall::test
