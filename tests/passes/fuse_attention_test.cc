// Attention as one op: whole steps as with the chunked body, which it takes the place of. On the
// CPU, whose kernels are plain loops, so that what is tested is what the pass puts where.
#include "runtime/passes/fuse_attention.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "comm/self/self_communicator.h"
#include "runtime/base/workspace.h"
#include "tests/support/poison.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

constexpr int kSteps = 3;

CompileSettings settings(bool fuses, int64_t micro_steps = 1, CheckpointPolicy policy = {}) {
  CompileSettings s;
  s.fuses_attention = fuses;
  s.micro_steps = micro_steps;
  s.checkpointing = std::move(policy);
  s.grad_clip = 0.5;
  return s;
}

int64_t steps_of(const Program& program, Op op) {
  return std::count_if(program.steps.begin(), program.steps.end(),
                       [&](const Step& step) { return step.op == op; });
}

bool has_attention_chunk(const Program& program) {
  return std::any_of(program.steps.begin(), program.steps.end(), [](const Step& step) {
    return step.op == Op::kChunked && step.name.find("attention") != std::string::npos;
  });
}

void expect_near(const Outcome& got, const Outcome& expected, double tolerance) {
  ASSERT_EQ(got.parameters.size(), expected.parameters.size());
  for (size_t i = 0; i < expected.steps.size(); ++i) {
    EXPECT_NEAR(got.steps[i].loss, expected.steps[i].loss, tolerance) << "step " << i;
    EXPECT_NEAR(got.steps[i].grad_norm, expected.steps[i].grad_norm, tolerance) << "step " << i;
  }
  double furthest = 0.0;
  for (size_t i = 0; i < expected.parameters.size(); ++i) {
    furthest = std::max(furthest, std::abs(got.parameters[i] - expected.parameters[i]));
  }
  EXPECT_LE(furthest, tolerance);
}

// A chunk of attention is a whole sequence, or, with 512 tokens, half of one.
class FuseAttention : public testing::TestWithParam<int64_t> {
 protected:
  GptSpec spec(DType dtype) const {
    GptSpec spec = tiny_spec(dtype);
    spec.time = spec.context = GetParam();
    return spec;
  }
};
INSTANTIATE_TEST_SUITE_P(Times, FuseAttention, testing::Values(16, 512));

TEST_P(FuseAttention, GivesTheStepsOfTheBody) {
  SelfCommunicator self;
  const GptSpec model = spec(DType::kF64);
  // Adam's steps have the size of the rate wherever a gradient is not zero, or all but: k's bias
  // has none. SGD's are as far apart as the gradients.
  const auto with_sgd = [](CompileSettings s) {
    s.optimizer = SgdSettings{};
    return s;
  };
  TinyRun plain(model, with_sgd(settings(false)), self);
  const Outcome expected = outcome_of(plain, kSteps);
  const CheckpointPolicy policies[] = {{Checkpointing::kNone, {}},
                                       {Checkpointing::kBlock, {}},
                                       {Checkpointing::kSelective, {"*/attn/attention"}},
                                       {Checkpointing::kSelective, {"*/attn/qkv.bias"}}};
  for (const CheckpointPolicy& policy : policies) {
    TinyRun fused(model, with_sgd(settings(true, 1, policy)), self, 2);
    PoisoningObserver poison(fused.executor());
    fused.executor().set_observer(&poison);
    expect_near(outcome_of(fused, kSteps), expected, 1e-11);
    const Program& step = fused.plan().program("last_micro");
    EXPECT_FALSE(has_attention_chunk(step));
    EXPECT_EQ(steps_of(step, Op::kAttentionGrad), model.layers);
    const bool again =
        policy.kind == Checkpointing::kBlock ||
        (policy.kind == Checkpointing::kSelective && policy.keep.front() != "*/attn/attention");
    EXPECT_EQ(steps_of(step, Op::kAttention), (again ? 2 : 1) * model.layers);
    EXPECT_EQ(steps_of(fused.plan().program("evaluate"), Op::kAttention), model.layers);
  }
}

// In 16 bits the body's results are sums in FP32 where chunks share them, rounded by copies that
// the fused kernel does without.
TEST_P(FuseAttention, TakesTheCopiesThatRound) {
  SelfCommunicator self;
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    TinyRun plain(spec(dtype), settings(false), self), fused(spec(dtype), settings(true), self);
    expect_near(outcome_of(fused, kSteps), outcome_of(plain, kSteps), 0.05);
    EXPECT_FALSE(has_attention_chunk(fused.plan().program("last_micro")));
    for (const Step& step : fused.plan().program("last_micro").steps) {
      EXPECT_FALSE(step.op == Op::kCopy && step.name.find("attn/") != std::string::npos)
          << step.name;
    }
  }
}

TEST_P(FuseAttention, AddsMicroSteps) {
  SelfCommunicator self;
  TinyRun plain(spec(DType::kF64), settings(false, 3), self);
  TinyRun fused(spec(DType::kF64), settings(true, 3), self);
  plain.accumulate(0);
  fused.accumulate(0);
  for (size_t u = 0; u < plain.plan().units.size(); ++u) {
    const Tensor expected = plain.executor().slot(SlotKind::kGradient, static_cast<int64_t>(u));
    const Tensor got = fused.executor().slot(SlotKind::kGradient, static_cast<int64_t>(u));
    for (int64_t i = 0; i < expected.elements(); ++i) {
      ASSERT_NEAR(element(got, i), element(expected, i), 1e-13) << "unit " << u << " element " << i;
    }
  }
}

TEST(FuseAttentionNot, WhereThereIsDropoutOrATangent) {
  SelfCommunicator self;
  const TinyRun dropped(dropping(DType::kF64), settings(true), self);
  EXPECT_TRUE(has_attention_chunk(dropped.plan().program("last_micro")));
  EXPECT_FALSE(has_attention_chunk(dropped.plan().program("evaluate")));
  CompileSettings s = settings(true);
  s.optimizer = AdaHessianSettings{.update_every = 2};
  const TinyRun curved(tiny_spec(DType::kF64), s, self);
  EXPECT_TRUE(has_attention_chunk(curved.plan().program("last_micro_hessian")));
  EXPECT_EQ(steps_of(curved.plan().program("last_micro_hessian"), Op::kAttention), 0);
  EXPECT_FALSE(has_attention_chunk(curved.plan().program("last_micro")));
}

// cuDNN's kernels are of 16 bits, and of heads of a multiple of 8 up to 128; where the scores of
// one head take more than a gibibyte, backward is the body's.
TEST(FuseAttentionNot, WhereTheTargetHasNoKernel) {
  const auto fuses = [](DType dtype, int64_t hidden, int64_t time) {
    GptSpec spec = tiny_spec(dtype);
    spec.hidden = hidden;
    spec.time = spec.context = time;
    CompileSettings s = settings(true);
    s.target = "sm_90";
    const Plan plan = compile(Gpt2(spec), s);
    return !has_attention_chunk(plan.program("last_micro"));
  };
  EXPECT_TRUE(fuses(DType::kBF16, 32, 64));
  EXPECT_TRUE(fuses(DType::kF16, 32, 64));
  EXPECT_FALSE(fuses(DType::kF32, 32, 64));
  EXPECT_FALSE(fuses(DType::kBF16, 24, 64));
  EXPECT_FALSE(fuses(DType::kBF16, 512, 64));
  EXPECT_TRUE(fuses(DType::kBF16, 32, 16384));
  EXPECT_FALSE(fuses(DType::kBF16, 32, 23296));
}

// As many samples a call as 256 MiB hold, else heads of one; a call's statistics begin at 16 bytes.
TEST(FuseAttention, SplitsWhatABackwardCallHolds) {
  const auto calls = [](int64_t samples, int64_t time, int64_t heads) {
    AttentionAttributes a{.samples = samples, .time = time, .heads = heads, .size = 64};
    choose_device_calls(a);
    return std::pair(a.samples_a_call, a.heads_a_call);
  };
  EXPECT_EQ(calls(8, 1024, 12), std::pair(int64_t{8}, int64_t{12}));
  EXPECT_EQ(calls(16, 1024, 12), std::pair(int64_t{8}, int64_t{12}));
  EXPECT_EQ(calls(2, 4096, 12), std::pair(int64_t{1}, int64_t{6}));
  EXPECT_EQ(calls(2, 16384, 12), std::pair(int64_t{1}, int64_t{1}));
  EXPECT_EQ(calls(2, 23296, 12), std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(calls(64, 1023, 5), std::pair(int64_t{16}, int64_t{5}));  // 25 would fit
  AttentionAttributes a{.samples = 16, .time = 1024, .heads = 12, .size = 64};
  choose_device_calls(a);
  // cuDNN 9.19's own figure for 8 samples on sm_90, and 32 MiB for what it does not say.
  EXPECT_GE(device_attention_grad_workspace_bytes(a), int64_t{8} * 12 * (1024 * 1024 * 2 + 4096));
}

}  // namespace
}  // namespace memwall::test
