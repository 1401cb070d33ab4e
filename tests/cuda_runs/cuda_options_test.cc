// Precisions and optimizers on imitated GPUs against the CPU.
#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

class CudaOptions : public CudaRuns {
 protected:
  // Stage 0 staged and stage 3 over NCCL, against CPUs and each other.
  void expect_as_on_cpus(const Words& fields, double tolerance) {
    const Course expected = train(cpu(2, fields));
    const Course whole = train(staged(2, with(fields, {stage(0)})));
    expect_near(whole, expected, tolerance);
    EXPECT_EQ(train(nccl(2, with(fields, {stage(3), "parallel.prefetch_depth=1"}))), whole);
  }
};

TEST_F(CudaOptions, Fp64) {
  expect_as_on_cpus({"precision.mode=FP64"}, 1e-12);
}

TEST_F(CudaOptions, Fp16) {
  expect_as_on_cpus({"precision.mode=FP16", "model.dropout=0.1"}, 1e-3);
}

// Steps that overflow are skipped on all ranks.
TEST_F(CudaOptions, Fp16FromALossScaleThatOverflows) {
  const Words fields = {"precision.mode=FP16", "precision.initial_loss_scale=1e9",
                        "precision.backoff=0.01"};
  const Outcome outcome = try_train("high", nccl(2, with(fields, {stage(3)})));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  ASSERT_EQ(try_train("cpu", cpu(2, fields)).exit_code, 0);
  const std::vector<Json> here = metrics("high"), there = metrics("cpu");
  ASSERT_EQ(here.size(), there.size());
  for (size_t i = 0; i < here.size(); ++i) {
    EXPECT_EQ(here[i]["skipped"], there[i]["skipped"]) << i;
    EXPECT_EQ(here[i]["loss_scale"], there[i]["loss_scale"]) << i;
  }
  EXPECT_TRUE(here[0]["skipped"].get<bool>());
  EXPECT_FALSE(here[4]["skipped"].get<bool>());
  EXPECT_NE(outcome.out.find("skipped: not finite"), std::string::npos) << outcome.out;
}

TEST_F(CudaOptions, Bf16) {
  expect_as_on_cpus({"precision.mode=BF16", "activation_checkpointing.policy=BLOCK"}, 1e-3);
}

// Its products' operands have 11 bits.
TEST_F(CudaOptions, Tf32) {
  const Course expected = train(cpu(2, {}));
  const Course rounded = train(nccl(2, {"precision.tf32=true", stage(1)}));
  expect_near(rounded, expected, 2e-2);
  const Course plain = train(nccl(2, {stage(1)}));
  expect_near(plain, expected, 1e-6);
  for (size_t i = 0; i < plain.losses.size(); ++i) {
    EXPECT_GT(std::abs(rounded.norms[i] - expected.norms[i]), 1e-6 * expected.norms[i]) << i;
  }
}

TEST_F(CudaOptions, Sgd) {
  expect_as_on_cpus({"optimizer.kind=SGD", "optimizer.momentum=0.9"}, 1e-6);
}

// Its steps with a measurement of curvature and those without send different bytes.
TEST_F(CudaOptions, AdaHessian) {
  expect_as_on_cpus({"optimizer.kind=ADAHESSIAN", "optimizer.adahessian.update_every=2"}, 1e-6);
}

// Which products go on with a bias or GELU depends on the GPU; what they compute does not, to
// rounding.
TEST_F(CudaOptions, EpiloguesOfEachGpu) {
  for (const std::string precision : {"precision.mode=BF16", "precision.mode=FP32"}) {
    const double tolerance = precision.ends_with("BF16") ? 1e-3 : 1e-6;
    const Words fields = {precision, "run.eval_every=2"};
    const Course expected = train(cpu(2, fields));
    Course newest;
    for (const std::string arch : {"80", "90", "100"}) {
      Asked asked = nccl(2, with(fields, {stage(2)}));
      asked.variables["MEMWALL_IMITATED_GPU_ARCH"] = arch;
      const Course course = train(asked);
      expect_near(course, expected, tolerance);
      if (arch == "100") {
        EXPECT_EQ(course, newest);
      }
      newest = course;
    }
    expect_near(train(nccl(2, with(fields, {"run.product_epilogues=false"}))), expected, tolerance);
    // GELU computed again from a sum that was kept.
    const Words kept = {"activation_checkpointing.policy=SELECTIVE",
                        "activation_checkpointing.keep=*/fc1.bias"};
    expect_near(train(nccl(2, with(fields, kept))), expected, tolerance);
  }
}

// The GPU forgets marks of which there are more than 32,768 younger ones.
TEST_F(CudaOptions, AStepOfVeryManyPieces) {
  const Words fields = {"data.global_batch_size=400", "data.micro_batch_size=1", "run.steps=1",
                        "model.num_layers=1", "data.seq_length=4"};
  // Where a step is traced each piece has marks of its own.
  expect_near(train(staged(1, with(fields, {"run.trace_steps=1"}))), train(cpu(1, fields)), 1e-6);
}

}  // namespace
}  // namespace memwall::test
