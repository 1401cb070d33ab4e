// What holds of the prediction of every compiled plan.
#include <gtest/gtest.h>

#include <numeric>

#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"
#include "runtime/sim/simulate.h"

namespace memwall::test {
namespace {

Machine machine() {
  return {.name = "m.textproto",
          .gemm_flops = {.fp64 = 1e12, .fp32 = 1e12, .fp16 = 4e12, .bf16 = 4e12},
          .vector_flops = 5e11,
          .dram_bandwidth = 1e11,
          .launch_seconds = 1e-6,
          .memory_bytes = int64_t{1} << 40,
          .devices = 4,
          .link = {1e10, 2e-6},
          .nics = 1,
          .nic = {1e9, 1e-5},
          .op_rates = {},
          .transfer_rates = {}};
}

GptSpec spec() {
  GptSpec out;
  out.layers = 3;
  out.hidden = 64;
  out.heads = 4;
  out.context = out.time = 64;
  out.vocabulary = 128;
  out.batch = 2;
  return out;
}

Plan plan_of(int64_t stage, int64_t prefetch, Algorithm algorithm, int64_t micro_steps = 1,
             Checkpointing checkpointing = Checkpointing::kNone) {
  CompileSettings settings;
  settings.ranks = 8;
  settings.zero_stage = stage;
  settings.prefetch_depth = prefetch;
  settings.micro_steps = micro_steps;
  settings.checkpointing.kind = checkpointing;
  settings.optimizer = AdamWSettings{};
  settings.collectives.asked = algorithm;
  return compile(Gpt2(spec()), settings);
}

class SimulatedPlans : public testing::TestWithParam<int64_t> {};  // the ZeRO stage

TEST_P(SimulatedPlans, ComputeIsTheLeastAndNoOverlapTheMost) {
  for (int64_t prefetch : {0, 1, 2}) {
    for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
      const Plan plan = plan_of(GetParam(), prefetch, algorithm, 3, Checkpointing::kBlock);
      const Simulation step = simulate(plan, machine());
      const StepSeconds& s = step.seconds;
      EXPECT_GT(s.compute, 0.0);
      EXPECT_GT(s.communication, 0.0);
      EXPECT_LE(s.compute, s.full_overlap);
      EXPECT_LE(s.full_overlap, s.no_overlap);
      EXPECT_NEAR(s.no_overlap, s.compute + s.communication, 1e-9 * s.no_overlap);
      EXPECT_NEAR(s.compute, s.flops + s.dram + s.launch, 1e-9 * s.compute);
      EXPECT_NEAR(s.communication, s.intra + s.inter + s.latency, 1e-9 * s.communication);
      EXPECT_NEAR(std::accumulate(step.by_op.begin(), step.by_op.end(), 0.0), s.no_overlap,
                  1e-9 * s.no_overlap);
    }
  }
}

// Without prefetch the plan waits for every transfer at once: nothing overlaps.
TEST_P(SimulatedPlans, OnlyPrefetchOverlaps) {
  const StepSeconds none = simulate(plan_of(GetParam(), 0, Algorithm::kRing), machine()).seconds;
  EXPECT_NEAR(none.full_overlap, none.no_overlap, 1e-9 * none.no_overlap);
  const StepSeconds some = simulate(plan_of(GetParam(), 2, Algorithm::kRing), machine()).seconds;
  EXPECT_NEAR(some.no_overlap, none.no_overlap, 1e-9 * none.no_overlap);
  EXPECT_LT(some.full_overlap, 0.999 * none.full_overlap);
}

// What links carry is what the plan says a rank sends.
TEST_P(SimulatedPlans, LinksCarryThePlannedTraffic) {
  for (int64_t micro_steps : {1, 3}) {
    for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
      const Plan plan = plan_of(GetParam(), 1, algorithm, micro_steps);
      const Totals& t = plan.totals;
      const LinkBytes bytes = simulate(plan, machine()).link_bytes;
      EXPECT_EQ(bytes.intra + bytes.inter,
                t.all_gather.wire_bytes + t.reduce_scatter.wire_bytes + t.all_reduce.wire_bytes);
      EXPECT_GT(bytes.intra, 0);
      EXPECT_GT(bytes.inter, 0);
      if (algorithm != Algorithm::kPairwise) continue;
      // Of 7 other ranks 3 are in the node.
      EXPECT_EQ(bytes.intra * 4, bytes.inter * 3);
    }
  }
}

TEST_P(SimulatedPlans, AFasterMachineIsNeverSlower) {
  const std::vector<WhatIf> better = {{.flops = 3}, {.dram = 3}, {.link = 3}};
  for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
    const Plan plan = plan_of(GetParam(), 1, algorithm);
    const StepSeconds before = simulate(plan, machine()).seconds;
    for (const WhatIf& factors : better) {
      const StepSeconds after = simulate(plan, scaled(machine(), factors)).seconds;
      EXPECT_LE(after.full_overlap, before.full_overlap * (1 + 1e-12));
      EXPECT_LT(after.no_overlap, before.no_overlap);
    }
    // Links without limits leave compute and messages.
    const StepSeconds free = simulate(plan, scaled(machine(), {.link = 1e12})).seconds;
    EXPECT_NEAR(free.communication, free.latency, 1e-9);
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, SimulatedPlans, testing::Values(0, 1, 2, 3),
                         [](const auto& instance) { return std::to_string(instance.param); });

// By hand: the products of a block and token are 6 * 12 * hidden^2 FLOPs forward and backward.
// Those of the head 6 * hidden * vocabulary. Attention's two, halved and rounded up to blocks of
// rows, are the rest: here whole, for 64 rows are one block: 12 * hidden * time.
TEST(SimulatedPlan, ProductsTakeTheirFlops) {
  Machine m = machine();
  m.launch_seconds = 0.0;
  m.dram_bandwidth = 1e30;
  const Plan plan = plan_of(0, 0, Algorithm::kRing);
  const double tokens = 2 * 64;
  const double weights = 3 * 12.0 * 64 * 64 + 64.0 * 128;
  const double flops = tokens * (6 * weights + 3 * 12.0 * 64 * 64);
  const double seconds = simulate(plan, m).by_op[static_cast<size_t>(Op::kGemm)];
  // The chunked attention computes its forward again in backward: two of its products more.
  const double attention_again = tokens * 3 * 4.0 * 64 * 64;
  EXPECT_GE(seconds, flops / 1e12 * (1 - 1e-9));
  EXPECT_LE(seconds, (flops + attention_again) / 1e12 * (1 + 1e-9));
}

}  // namespace
}  // namespace memwall::test
