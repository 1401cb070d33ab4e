// Where a step's time goes, measured on real ranks.
#include "runtime/train/step_timer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <vector>

#include "runtime/train/step_runner.h"
#include "tests/train/train_fixture.h"

namespace memwall::test {
namespace {

int64_t parts_of(const StepSplit& s) {
  return s.input_ns + s.compute_ns + s.progress_ns + s.exposed_communication_ns + s.wait_ns +
         s.update_ns + s.other_ns;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

TEST(RunClock, IsOneClockOnOneHost) {
  const RunClock clock(world());
  EXPECT_LE(std::abs(clock.offset().offset_ns), clock.offset().uncertainty_ns);
  EXPECT_LE(clock.offset().uncertainty_ns, world().rank() == 0 ? 0 : 1'000'000);
  // Everyone's time line begins when rank 0 made its own.
  EXPECT_GE(clock.run_ns(steady_ns()), 0);
  EXPECT_LT(clock.run_ns(steady_ns()), 10'000'000'000);
  EXPECT_EQ(clock.here_ns(clock.run_ns(12345)), 12345);
}

TEST(RunClock, FindsAClockThatIsAhead) {
  const int64_t ahead = world().rank() * 3'000'700'000'000;  // most of an hour
  RunClock clock(world(), [ahead] { return steady_ns() + ahead; });
  for (int again = 0; again < 2; ++again) {
    EXPECT_LE(std::abs(clock.offset().offset_ns - ahead), clock.offset().uncertainty_ns);
    EXPECT_LE(clock.offset().uncertainty_ns, world().rank() == 0 ? 0 : 1'000'000);
    const std::vector<double> all =
        world().gather_all({static_cast<double>(clock.run_ns(steady_ns() + ahead))});
    const auto [least, most] = std::minmax_element(all.begin(), all.end());
    EXPECT_LT(*most - *least, 1e9);
    clock.measure();
  }
}

TEST(StepTimer, NotesEveryStepAndTransferOfThePlan) {
  const SharedFolder folder;
  Launch launch(folder, {.stage = 3, .micro_steps = 2});
  launch.executor().run(launch.plan().program("init"));
  StepTimer timer(launch.executor());
  StepRunner steps(
      launch.executor(),
      feed_from(launch.data().training, launch.settings, world().size(), world().rank()),
      launch.settings, &timer);
  size_t computes = 0, transfers = 0;
  for (const ProgramRun& run : training_step(2, 1, false)) {
    for (const Step& step : launch.plan().program(run.program).steps) {
      ++(step.stream == Stream::kCommunication ? transfers : computes);
    }
  }
  for (int64_t step = 0; step < 3; ++step) {
    if (step == 2) timer.trace_next();
    const auto* const room = timer.times().transfers.data();
    const StepReport report = steps.run(step, initial_state({}), {});
    const StepTimes& times = timer.times();
    EXPECT_EQ(times.transfers.size(), transfers);
    EXPECT_EQ(times.programs.size(), 3u);
    EXPECT_EQ(times.transfers.data(), room) << "allocated during the step";
    const auto traced = std::count_if(times.work.begin(), times.work.end(),
                                      [](const WorkSpan& w) { return w.work == Work::kCompute; });
    EXPECT_EQ(static_cast<size_t>(traced), step == 2 ? computes : 0u);
    EXPECT_EQ(parts_of(report.split), report.split.total_ns);
    EXPECT_EQ(report.seconds, static_cast<double>(report.split.total_ns) / 1e9);
    EXPECT_GE(report.split.other_ns, 0);
    EXPECT_GT(report.split.compute_ns, 0);
    EXPECT_GT(report.split.update_ns, 0);
    EXPECT_EQ(report.split.communication_ns > 0, world().size() > 1);
    for (const TransferSpan& t : times.transfers) {
      EXPECT_GE(t.start_ns, times.begin_ns);
      EXPECT_GE(t.completed_ns, t.start_ns);
      EXPECT_LE(t.completed_ns, times.end_ns);
    }
    EXPECT_EQ(report.traffic[Collective::kOther].calls, 0) << "what the ranks tell each other";
  }
}

// The last rank is late with its input: it waits for nobody, the others wait for it, and what
// moving the data takes does not grow.
TEST(StepTimer, ADelayedRankIsWaitedFor) {
  if (world().size() == 1) GTEST_SKIP() << "nobody to wait for";
  constexpr double kDelay = 0.2;  // seconds, in each of two micro-steps
  const SharedFolder folder;
  Launch launch(folder, {.stage = 3, .micro_steps = 2});
  launch.executor().run(launch.plan().program("init"));
  StepTimer timer(launch.executor());
  const MicroBatchFeed feed =
      feed_from(launch.data().training, launch.settings, world().size(), world().rank());
  const bool late = world().rank() == world().size() - 1;
  StepRunner steps(
      launch.executor(),
      [&](int64_t step, int64_t micro_step, auto tokens, auto targets, auto samples) {
        if (late) std::this_thread::sleep_for(std::chrono::duration<double>(kDelay));
        feed(step, micro_step, tokens, targets, samples);
      },
      launch.settings, &timer);
  std::vector<double> wait, exposed, input, total;
  for (int64_t step = 0; step < 3; ++step) {
    const StepSplit split = steps.run(step, initial_state({}), {}).split;
    wait.push_back(static_cast<double>(split.wait_ns) / 1e9);
    exposed.push_back(static_cast<double>(split.exposed_communication_ns) / 1e9);
    input.push_back(static_cast<double>(split.input_ns) / 1e9);
    total.push_back(static_cast<double>(split.total_ns) / 1e9);
    EXPECT_EQ(parts_of(split), split.total_ns);
  }
  EXPECT_LT(median(exposed), 0.25 * kDelay);
  EXPECT_GE(median(total), 2 * kDelay);
  if (late) {
    EXPECT_GE(median(input), 2 * kDelay);
    EXPECT_LT(median(wait), 0.25 * kDelay);
  } else {
    EXPECT_NEAR(median(wait), 2 * kDelay, 0.25 * kDelay);
    EXPECT_LT(median(input), 0.25 * kDelay);
  }
}

// Behind the last transfer of a step nobody would notice, but for the step's end.
TEST(StepTimer, ARankThatEndsLateIsWaitedFor) {
  if (world().size() == 1) GTEST_SKIP() << "nobody to wait for";
  const SharedFolder folder;
  Launch launch(folder, {});
  StepTimer timer(launch.executor());
  const bool late = world().rank() == world().size() - 1;
  std::vector<double> wait;
  for (int i = 0; i < 3; ++i) {
    world().barrier();
    timer.begin();
    if (late) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const StepSplit split = timer.end();
    EXPECT_GE(split.total_ns, 80'000'000);
    wait.push_back(static_cast<double>(split.wait_ns) / 1e9);
  }
  EXPECT_NEAR(median(wait), late ? 0.0 : 0.1, 0.02);
}

}  // namespace
}  // namespace memwall::test
