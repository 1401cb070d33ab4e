// Schedules and loss scaling, against values worked out by hand.
#include "optim/schedule.h"

#include <gtest/gtest.h>

#include "optim/loss_scale.h"

namespace memwall {
namespace {

LearningRateSchedule schedule(ScheduleKind kind) {
  return {.kind = kind,
          .learning_rate = 1.0,
          .min_learning_rate = 0.1,
          .warmup_steps = 9,
          .decay_steps = 109};
}

TEST(Schedule, WarmsUpLinearly) {
  for (ScheduleKind kind : {ScheduleKind::kConstant, ScheduleKind::kCosine, ScheduleKind::kLinear,
                            ScheduleKind::kWsd, ScheduleKind::kInverseSqrt}) {
    EXPECT_DOUBLE_EQ(schedule(kind).at(0), 0.1);
    EXPECT_DOUBLE_EQ(schedule(kind).at(8), 0.9);
    EXPECT_DOUBLE_EQ(schedule(kind).at(9), 1.0);
  }
}

TEST(Schedule, Decays) {
  EXPECT_DOUBLE_EQ(schedule(ScheduleKind::kConstant).at(1000), 1.0);
  EXPECT_DOUBLE_EQ(schedule(ScheduleKind::kCosine).at(59), 0.55);  // half-way
  EXPECT_NEAR(schedule(ScheduleKind::kCosine).at(34), 0.1 + 0.9 * 0.8535533905932737, 1e-12);
  EXPECT_DOUBLE_EQ(schedule(ScheduleKind::kLinear).at(34), 0.775);
  EXPECT_DOUBLE_EQ(schedule(ScheduleKind::kWsd).at(87), 1.0);  // 109 - 21 = 88
  EXPECT_DOUBLE_EQ(schedule(ScheduleKind::kWsd).at(88), 1.0);
  EXPECT_NEAR(schedule(ScheduleKind::kWsd).at(95), 0.1 + 0.9 * (1 - 0.5773502691896257), 1e-12);
  EXPECT_DOUBLE_EQ(schedule(ScheduleKind::kInverseSqrt).at(39), 0.5);    // sqrt(10 / 40)
  EXPECT_DOUBLE_EQ(schedule(ScheduleKind::kInverseSqrt).at(9999), 0.1);  // the minimum
  for (ScheduleKind kind : {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kWsd}) {
    EXPECT_DOUBLE_EQ(schedule(kind).at(109), 0.1);
    EXPECT_DOUBLE_EQ(schedule(kind).at(5000), 0.1);
  }
}

TEST(Schedule, AWarmUpMayOutlastTheRun) {
  LearningRateSchedule s = schedule(ScheduleKind::kCosine);
  s.decay_steps = 5;
  EXPECT_DOUBLE_EQ(s.at(4), 0.5);
  EXPECT_DOUBLE_EQ(s.at(9), 0.1);
}

TEST(LossScale, GrowsAfterCleanStepsAndDropsOnOverflow) {
  const LossScaleSettings settings{true, 1024.0, 3, 0.5, 1, 1.0};
  LossScaleState s = initial_loss_scale(settings);
  EXPECT_EQ(s, (LossScaleState{1024.0, 0, 0}));
  for (int i = 0; i < 2; ++i) s = next_loss_scale(settings, s, false);
  EXPECT_EQ(s, (LossScaleState{1024.0, 2, 0}));
  s = next_loss_scale(settings, s, false);
  EXPECT_EQ(s, (LossScaleState{2048.0, 0, 0}));
  s = next_loss_scale(settings, s, true);
  EXPECT_EQ(s, (LossScaleState{1024.0, 0, 0}));
  for (int i = 0; i < 20; ++i) s = next_loss_scale(settings, s, true);
  EXPECT_EQ(s.scale, 1.0);
  EXPECT_TRUE(at_minimum(settings, s));
}

TEST(LossScale, HysteresisWaits) {
  const LossScaleSettings settings{true, 8.0, 100, 0.5, 2, 1.0};
  LossScaleState s = next_loss_scale(settings, initial_loss_scale(settings), true);
  EXPECT_EQ(s, (LossScaleState{8.0, 0, 1}));
  s = next_loss_scale(settings, s, false);
  s = next_loss_scale(settings, s, true);
  EXPECT_EQ(s, (LossScaleState{4.0, 0, 0}));
}

TEST(LossScale, DoesNotShrinkWithTheRanks) {
  EXPECT_EQ(effective_loss_scale(16.0, 1), 16.0);
  EXPECT_EQ(effective_loss_scale(16.0, 6), 128.0);
  EXPECT_EQ(effective_loss_scale(16.0, 8), 128.0);
  EXPECT_EQ(next_loss_scale({}, initial_loss_scale({}), true).scale, 1.0);  // off
}

}  // namespace
}  // namespace memwall
