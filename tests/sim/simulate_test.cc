// Timelines of plans written by hand, whose seconds can be counted.
#include <gtest/gtest.h>

#include "runtime/sim/scaling.h"
#include "runtime/sim/simulate.h"
#include "runtime/sim/skew.h"

namespace memwall::test {
namespace {

// A second for 1e9 FLOPs or 1e6 bytes of memory, and for one byte of a link.
Machine machine() {
  return {.name = "m.textproto",
          .gemm_flops = {},
          .vector_flops = 1e9,
          .dram_bandwidth = 1e6,
          .launch_seconds = 0.0,
          .memory_bytes = 1,
          .devices = 2,
          .link = {1.0, 0.0},
          .nics = 0,
          .nic = {},
          .op_rates = {},
          .transfer_rates = {}};
}

Step compute(double seconds, std::vector<int32_t> waits = {}) {
  Step step;
  step.name = "compute";
  step.op = Op::kAdd;
  step.flops = static_cast<int64_t>(seconds * 1e9);
  step.waits = std::move(waits);
  return step;
}

Operand bytes(int64_t count) {
  Operand operand;
  operand.dtype = DType::kF32;
  operand.shape = {count / 4};
  operand.bytes = count;
  return operand;
}

// Each of two ranks sends `shard` bytes to the other.
Step transfer(Op op, int64_t shard, std::vector<int32_t> waits) {
  Step step;
  step.name = "transfer";
  step.op = op;
  step.stream = Stream::kCommunication;
  const bool gathers = op == Op::kAllGather;
  step.inputs = {bytes(gathers ? shard : 2 * shard)};
  step.outputs = {bytes(gathers ? 2 * shard : shard)};
  step.waits = std::move(waits);
  return step;
}

Program program(std::string name, std::vector<Step> steps) {
  Program out;
  out.name = std::move(name);
  out.steps = std::move(steps);
  return out;
}

// 0: compute 2 s         0 to 2
// 1:   gather 4 bytes    2 to 6    after 0
// 2: compute 1 s         2 to 3
// 3: compute 1 s         6 to 7    after 1
// 4:   scatter 8 bytes   7 to 15   after 3
Program overlapping(const std::string& name) {
  return program(name, {compute(2), transfer(Op::kAllGather, 4, {0}), compute(1), compute(1, {1}),
                        transfer(Op::kReduceScatter, 8, {3})});
}

Plan plan(int64_t micro_steps) {
  Plan out;
  out.ranks = 2;
  out.micro_steps = micro_steps;
  if (micro_steps > 1) out.programs.push_back(overlapping("micro"));
  out.programs.push_back(overlapping("last_micro"));
  out.programs.push_back(program("update", {compute(0.5)}));
  return out;
}

TEST(Simulate, StepsStartAfterTheirStreamAndTheirWaits) {
  const Simulation step = simulate(plan(1), machine());
  const std::vector<StepSpan>& spans = step.timelines.at(0).spans;
  const std::vector<std::pair<double, double>> expected = {{0, 2}, {2, 6}, {2, 3}, {6, 7}, {7, 15}};
  ASSERT_EQ(spans.size(), expected.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    EXPECT_DOUBLE_EQ(spans[i].start, expected[i].first) << i;
    EXPECT_DOUBLE_EQ(spans[i].end, expected[i].second) << i;
  }
  EXPECT_DOUBLE_EQ(step.seconds.full_overlap, 15.5);
  EXPECT_DOUBLE_EQ(step.seconds.no_overlap, 16.5);
  EXPECT_DOUBLE_EQ(step.seconds.compute, 4.5);
  EXPECT_DOUBLE_EQ(step.seconds.communication, 12.0);
  EXPECT_DOUBLE_EQ(step.seconds.exposed_communication(), 11.0);
  EXPECT_DOUBLE_EQ(step.by_op[static_cast<size_t>(Op::kAdd)], 4.5);
  EXPECT_DOUBLE_EQ(step.by_op[static_cast<size_t>(Op::kReduceScatter)], 8.0);
  EXPECT_EQ(step.link_bytes.intra, 12);
  EXPECT_EQ(step.link_bytes.inter, 0);
}

TEST(Simulate, MicroStepsRepeatAProgramThatIsWalkedOnce) {
  const Simulation step = simulate(plan(1000), machine());
  ASSERT_EQ(step.timelines.size(), 3U);
  EXPECT_EQ(step.timelines[0].program, "micro");
  EXPECT_EQ(step.timelines[0].runs, 999);
  EXPECT_EQ(step.timelines[1].runs, 1);
  EXPECT_DOUBLE_EQ(step.seconds.full_overlap, 15'000.5);
  EXPECT_EQ(step.link_bytes.intra, 12'000);
}

// A body of two steps, four times: FLOPs and bytes are those of all iterations, launches one each.
TEST(Simulate, BodiesAreEntered) {
  Plan chunked;
  chunked.programs = {program("last_micro", {compute(0)}), program("update", {})};
  Step& step = chunked.programs[0].steps[0];
  step.op = Op::kChunked;
  step.body = 0;
  step.flops = 99;  // what the steps of the body do, once more
  Body body;
  body.count = 4;
  body.steps = {compute(3), compute(0)};
  body.steps[1].op = Op::kCopy;
  body.steps[1].dram_bytes = 5'000'000;
  chunked.programs[0].bodies = {body};
  Machine slow_launches = machine();
  slow_launches.launch_seconds = 0.25;
  const Simulation simulated = simulate(chunked, slow_launches);
  EXPECT_DOUBLE_EQ(simulated.seconds.compute, 3 + 5 + 2 * 4 * 0.25);
  EXPECT_DOUBLE_EQ(simulated.seconds.flops, 3.0);
  EXPECT_DOUBLE_EQ(simulated.seconds.dram, 5.0);
  EXPECT_DOUBLE_EQ(simulated.seconds.launch, 2.0);
  EXPECT_DOUBLE_EQ(simulated.by_op[static_cast<size_t>(Op::kCopy)], 6.0);
}

TEST(Simulate, WhatComputeHidesIsNotExposed) {
  Plan hidden;
  hidden.ranks = 2;
  hidden.programs = {
      program("last_micro", {transfer(Op::kAllGather, 4, {}), compute(5), compute(1, {0})}),
      program("update", {})};
  const Simulation step = simulate(hidden, machine());
  EXPECT_DOUBLE_EQ(step.seconds.full_overlap, 6.0);
  EXPECT_EQ(step.seconds.exposed_communication(), 0.0);
  EXPECT_DOUBLE_EQ(step.seconds.no_overlap, 10.0);
}

// The pairwise exchange in messages: a reduce-scatter of 3 * 2^20 FP32 elements a shard between two
// ranks goes in blocks of 4 MiB, three; an all-gather of 80 MiB a shard in messages of 64 MiB, two.
TEST(Simulate, LongTransfersAreSeveralMessages) {
  Plan cut;
  cut.ranks = 2;
  cut.programs = {program("last_micro", {transfer(Op::kReduceScatter, int64_t{12} << 20, {}),
                                         transfer(Op::kAllGather, int64_t{80} << 20, {})}),
                  program("update", {})};
  Machine m = machine();
  m.link.latency_seconds = 10.0;
  EXPECT_DOUBLE_EQ(simulate(cut, m).seconds.latency, 3 * 10.0 + 2 * 10.0);
  cut.fabric.transport = Transport::kSharedMemory;
  EXPECT_DOUBLE_EQ(simulate(cut, m).seconds.latency, 2 * 10.0);
}

// The step takes 4.5 + 12 / f seconds less the second that gather and compute share (with a gather
// of at least a second). 10 seconds: 12 / f = 6.5.
TEST(LinkFactor, IsFound) {
  const std::optional<double> factor = link_factor_for(plan(1), machine(), 10.0);
  ASSERT_TRUE(factor.has_value());
  EXPECT_NEAR(*factor, 12.0 / 6.5, 12.0 / 6.5 * 1e-3);
  EXPECT_LE(4.5 + 12 / *factor - 1, 10.0 + 1e-9);
  // Compute alone takes 4.5 seconds.
  EXPECT_FALSE(link_factor_for(plan(1), machine(), 4.4).has_value());
  EXPECT_EQ(link_factor_for(plan(1), machine(), 1e9), 0.0);
}

// Measured rates are links too: the general ones, a thousand times as fast, play no part then.
TEST(LinkFactor, ScalesWhatWasMeasured) {
  Machine measured = machine();
  measured.link.bandwidth = 1000.0;
  for (Op op : {Op::kAllGather, Op::kReduceScatter}) {
    measured.transfer_rates.push_back({.op = op, .link = {1.0, 0.0}, .nic = {}, .corrections = {}});
  }
  const std::optional<double> factor = link_factor_for(plan(1), measured, 10.0);
  ASSERT_TRUE(factor.has_value());
  EXPECT_NEAR(*factor, 12.0 / 6.5, 12.0 / 6.5 * 1e-3);
}

// Two nodes of two, s = 3000 bytes, links inside without limit, messages between nodes of 3 s: two
// levels take 2 s / B + 3, pairwise 4 s / B + 2. In 2.5 s only pairwise can, with 4 s / B = 0.5.
TEST(LinkFactor, LetsFasterLinksHaveTheirAlgorithm) {
  Plan gather;
  gather.ranks = 4;
  Step step = transfer(Op::kAllGather, 3000, {});
  step.algorithm = Algorithm::kTwoLevel;
  gather.programs = {program("last_micro", {step}), program("update", {})};
  Machine m = machine();
  m.link = {1e30, 0.0};
  m.nics = 1;
  m.nic = {1000.0, 3.0};
  EXPECT_FALSE(link_factor_for(gather, m, 2.5).has_value());
  const std::optional<double> factor = link_factor_for(gather, m, 2.5, Chosen::kByTheLinks);
  ASSERT_TRUE(factor.has_value());
  EXPECT_NEAR(*factor, 24.0, 24e-3);
  // In 7 s, 2 s / B = 4: two levels with 1500 bytes/s; pairwise needs 2400.
  EXPECT_NEAR(link_factor_for(gather, m, 7.0, Chosen::kByTheLinks).value(), 1.5, 1.5e-3);
}

// Closed forms: 1 / sqrt(pi) for two, 3 / (2 sqrt(pi)) for three.
TEST(ExpectedMaximum, IsThatOfNormalVariables) {
  EXPECT_EQ(expected_maximum(1), 0.0);
  EXPECT_NEAR(expected_maximum(2), 0.56418958354775629, 1e-9);
  EXPECT_NEAR(expected_maximum(3), 0.84628437532163443, 1e-9);
  EXPECT_NEAR(expected_maximum(100), 2.50759,
              1e-5);  // David and Nagaraja, table of order statistics
  EXPECT_GT(expected_maximum(16384), expected_maximum(8192));
}

// The host's work is the rank's own, and is launched; waiting for the slowest rank is neither
// compute nor exposed communication.
TEST(Simulate, HostAndSkewComeOnTop) {
  Machine m = machine();
  m.step_seconds = 0.25;
  m.skew_seconds = 2.0;
  const StepSeconds s = simulate(plan(1), m).seconds;
  const double skew = 2.0 * 0.56418958354775629;
  EXPECT_NEAR(s.skew, skew, 1e-9);
  EXPECT_NEAR(s.full_overlap, 15.5 + 0.25 + skew, 1e-9);
  EXPECT_NEAR(s.no_overlap, 16.5 + 0.25 + skew, 1e-9);
  EXPECT_DOUBLE_EQ(s.compute, 4.75);
  EXPECT_DOUBLE_EQ(s.launch, 0.25);
  EXPECT_NEAR(s.exposed_communication(), 11.0, 1e-9);
}

TEST(Bottleneck, IsTheLargestPartOfTheLargerSide) {
  StepSeconds s;
  s.compute = 10;
  s.flops = 4, s.dram = 5, s.launch = 1;
  s.communication = 9;
  s.inter = 6, s.latency = 3;
  s.full_overlap = 12;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kDram);
  s.flops = 6, s.dram = 3;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kCompute);
  s.flops = 2, s.launch = 5;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kLaunch);
  s.communication = 30;
  s.inter = 14, s.latency = 3, s.intra = 13;
  s.full_overlap = 30;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kInterLink);
  s.intra = 15;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kIntraLink);
  s.latency = 16;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kLatency);
  // 12 exposed seconds of 22, though no part of them is as long as the 10 of compute.
  s.compute = s.flops = 10;
  s.communication = 24;
  s.inter = 11, s.latency = 9, s.intra = 4;
  s.full_overlap = 22;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kInterLink);
  s.full_overlap = 19;
  EXPECT_EQ(bottleneck_of(s), Bottleneck::kCompute);
}

}  // namespace
}  // namespace memwall::test
