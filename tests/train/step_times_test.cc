// The arithmetic of a step's time, on spans and clocks made by hand.
#include "runtime/train/step_times.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "runtime/base/error.h"
#include "runtime/train/clock_offsets.h"

namespace memwall::test {
namespace {

TEST(StepSplit, AddsUpToTheStep) {
  StepTimes times;
  times.begin_ns = 5000;
  times.end_ns = 6000;
  times.input_ns = 100;
  times.compute_ns = 400;
  times.progress_ns = 50;
  times.update_ns = 60;
  Program micro, update;
  micro.name = "last_micro";
  update.name = "update";
  times.programs = {{&micro, 0, 5100, 5700}, {&update, 0, 5700, 5990}};
  times.transfers = {{5100, 5300, 0, 0}, {5250, 5600, 0, 1}, {5700, 5800, 1, 0}};
  times.waits = {{5200, 5300, 0, 2}, {5400, 5600, 1, 3}, {5750, 5800, 2, 1}};
  // The last rank started the first transfer in the middle of the wait for it, the second one
  // before that wait, the third one, as clocks that are apart have it, after its end.
  const StepSplit split = split_step(times, {{5260, 5350, 5900}, 5950});
  EXPECT_EQ(split.wait_ns, 60 + 0 + 50);
  EXPECT_EQ(split.exposed_communication_ns, 40 + 200 + 0);
  EXPECT_EQ(split.total_ns, 1000);
  EXPECT_EQ(split.other_ns, 1000 - (100 + 400 + 50 + 60 + 110 + 240));
  EXPECT_EQ(split.communication_ns, 500 + 100);
  EXPECT_EQ(split.micro_steps_ns, 600);
  EXPECT_EQ(split.input_ns, 100);
  EXPECT_EQ(split.compute_ns, 400);
  EXPECT_EQ(split.progress_ns, 50);
  EXPECT_EQ(split.update_ns, 60);
}

TEST(StepSplit, EndsWithTheLastRank) {
  StepTimes times;
  times.end_ns = 1000;
  times.compute_ns = 900;
  const StepSplit split = split_step(times, {{}, 1200});
  EXPECT_EQ(split.total_ns, 1200);
  EXPECT_EQ(split.wait_ns, 200);
  EXPECT_EQ(split.other_ns, 100);
  EXPECT_EQ(split.exposed_communication_ns, 0);
}

// A transfer of 300 ns that all ranks start at once beside `computing` ns of compute.
TEST(StepSplit, ExposedIsWhatComputingDoesNotCover) {
  for (const int64_t computing : {0, 50, 299, 300, 301, 1000}) {
    const int64_t waits_from = 100 + computing, waits_to = std::max<int64_t>(waits_from, 400);
    StepTimes times;
    times.begin_ns = 100;
    times.end_ns = waits_to;
    times.compute_ns = computing;
    times.transfers = {{100, 400, 0, 0}};
    times.waits = {{waits_from, waits_to, 0, 2}};
    const StepSplit split = split_step(times, {{100}, waits_to});
    EXPECT_EQ(split.exposed_communication_ns,
              std::max<int64_t>(0, split.communication_ns - computing));
    EXPECT_EQ(split.wait_ns, 0);
    EXPECT_EQ(split.total_ns, std::max<int64_t>(300, computing));
  }
}

TEST(StepSplit, NeedsTheStartOfEveryTransfer) {
  StepTimes times;
  times.transfers = {{0, 1, 0, 0}};
  EXPECT_THROW(split_step(times, {{}, 0}), InternalError);
}

TEST(Covered, CountsOverlapsOnce) {
  EXPECT_EQ(covered_ns({}), 0);
  const std::vector<TransferSpan> apart = {{0, 10, 0, 0}, {20, 25, 0, 1}};
  EXPECT_EQ(covered_ns(apart), 15);
  const std::vector<TransferSpan> overlapping = {{0, 10, 0, 0}, {5, 25, 0, 1}, {6, 25, 0, 2}};
  EXPECT_EQ(covered_ns(overlapping), 25);
  const std::vector<TransferSpan> inside = {{0, 100, 0, 0}, {5, 25, 0, 1}, {50, 110, 0, 2}};
  EXPECT_EQ(covered_ns(inside), 110);
}

// The other clock is 1000 ahead. Delays out: 50, 30; home: 70, 10.
TEST(OffsetFilter, TakesTheLeastDelayedOfEachDirection) {
  OffsetFilter filter;
  filter.outward(100, 1150);
  filter.outward(200, 1230);
  filter.homeward(2000, 1070);
  filter.homeward(3000, 2010);
  EXPECT_EQ(filter.least_outward_ns(), 1030);
  EXPECT_EQ(filter.least_homeward_ns(), -990);
  EXPECT_EQ(filter.offset().offset_ns, 1010);
  EXPECT_EQ(filter.offset().uncertainty_ns, 20);
}

TEST(OffsetFilter, NeedsBothDirections) {
  OffsetFilter filter;
  filter.outward(0, 1);
  EXPECT_THROW(filter.offset(), InternalError);
}

// Two clocks, one `ahead`, and messages that take `least` ns and a random delay on top.
ClockOffset simulated(int64_t ahead, double least_out, double least_home, double noise_out,
                      double noise_home) {
  std::mt19937_64 random(7);
  const auto delay = [&](double least, double noise) {
    std::exponential_distribution<double> extra(1.0 / noise);
    return static_cast<int64_t>(least + extra(random));
  };
  OffsetFilter filter;
  for (int64_t i = 0; i < 200; ++i) {
    const int64_t now = i * 1'000'000;
    filter.outward(now, now + delay(least_out, noise_out) + ahead);
    filter.homeward(now + 500'000 + ahead, now + 500'000 + delay(least_home, noise_home));
  }
  return filter.offset();
}

TEST(OffsetFilter, FindsTheOffsetUnderAsymmetricNoise) {
  for (const int64_t ahead : {int64_t{0}, int64_t{123'456}, int64_t{-7'000'000'000'000}}) {
    // 40 us each way; jams of 2 ms on the way out, of 50 us on the way home.
    const ClockOffset found = simulated(ahead, 40e3, 40e3, 2e6, 50e3);
    EXPECT_LE(std::abs(found.offset_ns - ahead), 20'000) << ahead;
    EXPECT_LE(std::abs(found.offset_ns - ahead), found.uncertainty_ns) << ahead;
    EXPECT_LE(found.uncertainty_ns, 80'000);
  }
}

// Half of what the ways differ by cannot be told from an offset: the uncertainty covers it.
TEST(OffsetFilter, IsUncertainByWhatTheWaysMayDiffer) {
  const ClockOffset found = simulated(1'000'000, 90e3, 10e3, 1.0, 1.0);
  EXPECT_NEAR(static_cast<double>(found.offset_ns), 1'000'000 + 40e3, 100);
  EXPECT_NEAR(static_cast<double>(found.uncertainty_ns), 50e3, 100);
}

}  // namespace
}  // namespace memwall::test
