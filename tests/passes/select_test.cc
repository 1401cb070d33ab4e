// Fused kernels: fewer passes over memory, the same bits.
#include <gtest/gtest.h>

#include <algorithm>

#include "comm/self/self_communicator.h"
#include "runtime/passes/select.h"
#include "tests/support/poison.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

CompileSettings settings_for(const char* target, int64_t micro_steps, Checkpointing policy) {
  CompileSettings s;
  s.target = target;
  s.micro_steps = micro_steps;
  s.checkpointing.kind = policy;
  s.grad_clip = 0.5;
  return s;
}

int64_t steps_of(const Plan& plan, Op op) {
  int64_t count = 0;
  for (const Program& program : plan.programs) {
    count += std::count_if(program.steps.begin(), program.steps.end(),
                           [&](const Step& step) { return step.op == op; });
  }
  return count;
}

struct Outcome {
  std::vector<TinyRun::Step> steps;
  std::vector<double> parameters;
  bool operator==(const Outcome&) const = default;
};

Outcome outcome_of(TinyRun& run) {
  Outcome out;
  for (int i = 0; i < 3; ++i) out.steps.push_back(run.step(i, 1e-2));
  out.parameters = run.gathered_parameters();
  return out;
}

class Select : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, Select,
                         testing::Values(DType::kF64, DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST_P(Select, KeepsTheBits) {
  SelfCommunicator self;
  GptSpec spec = tiny_spec(GetParam());
  spec.batch = 5;  // 80 rows: a block of rows, and part of one
  spec.context = spec.time;
  for (double dropout : {0.0, 0.1}) {
    spec.dropout = dropout;
    for (int64_t micro_steps : {1, 3}) {
      for (Checkpointing policy : {Checkpointing::kNone, Checkpointing::kBlock}) {
        TinyRun plain(spec, settings_for(kPlainCpuTarget, micro_steps, policy), self);
        const Outcome expected = outcome_of(plain);
        for (int threads : {1, 3}) {
          TinyRun fused(spec, settings_for(kCpuTarget, micro_steps, policy), self, threads);
          PoisoningObserver poison(fused.executor());
          fused.executor().set_observer(&poison);
          EXPECT_EQ(outcome_of(fused), expected)
              << "micro " << micro_steps << " dropout " << dropout;
          EXPECT_GT(steps_of(fused.plan(), Op::kBiasGelu), 0);
          EXPECT_GT(steps_of(fused.plan(), Op::kAddLayerNorm), 0);
          EXPECT_GT(steps_of(fused.plan(), Op::kGeluGradColumns), 0);
          EXPECT_LT(fused.plan().totals.dram_bytes, plain.plan().totals.dram_bytes);
          EXPECT_EQ(fused.plan().totals.model_flops, plain.plan().totals.model_flops);
        }
      }
    }
  }
}

// A layer norm's three gradients are one pass where none of them is added to another micro-step's.
TEST_P(Select, JoinsTheGradientsOfALayerNorm) {
  SelfCommunicator self;
  const GptSpec spec = tiny_spec(GetParam());
  const TinyRun one(spec, settings_for(kCpuTarget, 1, Checkpointing::kNone), self);
  EXPECT_EQ(steps_of(one.plan(), Op::kLayerNormGrads), 2 * spec.layers + 1);
  EXPECT_EQ(steps_of(one.plan(), Op::kLayerNormGrad), 0);
  EXPECT_EQ(steps_of(one.plan(), Op::kLayerNormScaleGrad), 0);
}

// What only one op reads is worked on in place by two kernels: fused, it would take a buffer more.
TEST_P(Select, LeavesEvaluationInPlace) {
  SelfCommunicator self;
  const TinyRun run(tiny_spec(GetParam()), settings_for(kCpuTarget, 1, Checkpointing::kNone), self);
  const Program& evaluate = run.plan().program("evaluate");
  for (const Step& step : evaluate.steps) EXPECT_NE(step.op, Op::kBiasGelu) << step.name;
}

TEST(SelectTargets, AnUnknownOneIsNamed) {
  try {
    select(Graph{}, {.target = "z80"});
    FAIL() << "not refused";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("z80"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace memwall::test
