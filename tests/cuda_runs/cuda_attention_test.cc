// Attention by cuDNN on imitated GPUs: what cuDNN's own front end makes of it is interpreted,
// operation by operation. Against the chunked body, which runs where run.fused_attention is false.
#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

constexpr int kSteps = 5, kLayers = 2;
const std::string kBody = "run.fused_attention=false";

class CudaAttention : public CudaRuns {
 protected:
  // How often each rank's cuDNN was asked to execute something; trains in `folder`.
  std::vector<int64_t> executions(Asked asked, const std::string& folder) {
    const fs::path file = place.path(folder + ".counts");
    asked.variables["MEMWALL_IMITATED_GPU_COUNTS"] = file.string();
    train(asked, folder);
    std::vector<int64_t> out;
    for (const Json& line : json_lines(file)) {
      const Json& calls = line["calls"];
      out.push_back(
          calls.contains("cudnnBackendExecute") ? calls["cudnnBackendExecute"].get<int64_t>() : 0);
    }
    return out;
  }
};

TEST_F(CudaAttention, LearnsAsTheBodyDoes) {
  for (const std::string precision : {"precision.mode=FP16", "precision.mode=BF16"}) {
    const Course fused = train(staged(1, {precision}));
    expect_near(fused, train(staged(1, {precision, kBody})), 2e-3);
    expect_near(fused, train(cpu(1, {precision})), 2e-3);
  }
}

// A longer sequence than one tile of cuDNN's, and than a chunk of the body's: half of it.
TEST_F(CudaAttention, OfALongSequence) {
  const Words fields = {"precision.mode=BF16", "data.seq_length=384", "model.context_length=384",
                        "run.steps=2"};
  expect_near(train(staged(1, fields)), train(staged(1, with(fields, {kBody}))), 2e-3);
}

TEST_F(CudaAttention, TheSameBitsUnderStagesPoliciesAndOrders) {
  const Words fields = {"precision.mode=BF16"};
  const Course expected = train(staged(2, with(fields, {stage(0)})));
  for (int s = 1; s <= 3; ++s) EXPECT_EQ(train(nccl(2, with(fields, {stage(s)}))), expected) << s;
  const std::string policy = "activation_checkpointing.policy=",
                    keep = "activation_checkpointing.keep=";
  for (const Words& again :
       {Words{policy + "BLOCK"}, Words{policy + "SELECTIVE", keep + "*/attention"},
        Words{policy + "SELECTIVE", keep + "*/qkv.bias"}}) {
    EXPECT_EQ(train(nccl(2, with(with(fields, {stage(3)}), again))), expected) << again.back();
  }
  for (const std::string order : {"EARLY", "RANDOM:1", "RANDOM:2"}) {
    Asked asked = nccl(2, with(fields, {stage(3), "parallel.prefetch_depth=1"}));
    asked.variables["MEMWALL_IMITATED_GPU_ORDER"] = order;
    EXPECT_EQ(train(asked), expected) << order;
  }
}

TEST_F(CudaAttention, InGraphs) {
  const Words fields = {"precision.mode=BF16", stage(3), "data.global_batch_size=8"};
  const Course expected = train(nccl(2, fields));
  EXPECT_EQ(train(nccl(2, with(fields, {"run.cuda_graphs=true"}))), expected);
  EXPECT_EQ(train(staged(2, with(fields, {"run.cuda_graphs=true"}))), expected);
}

// Forward and backward of every layer and step; a region that is computed again asks again.
TEST_F(CudaAttention, IsAskedOfCudnn) {
  const Words fields = {"precision.mode=BF16"};
  const auto times = [](int64_t a_layer) {
    return std::vector<int64_t>(2, kSteps * kLayers * a_layer);
  };
  EXPECT_EQ(executions(staged(2, fields), "kept"), times(2));
  EXPECT_EQ(executions(staged(2, with(fields, {"activation_checkpointing.policy=BLOCK"})), "again"),
            times(3));
  EXPECT_EQ(executions(staged(2, with(fields, {kBody})), "body"), times(0));
  EXPECT_EQ(executions(staged(2, with(fields, {"model.dropout=0.1"})), "dropped"), times(0));
  EXPECT_EQ(executions(staged(2, {}), "fp32"), times(0));
}

// Steps that measure curvature, every other one, have tangents.
TEST_F(CudaAttention, LeavesTangentsToTheBody) {
  const Words fields = {"precision.mode=BF16", "optimizer.kind=ADAHESSIAN",
                        "optimizer.adahessian.update_every=2"};
  EXPECT_EQ(executions(staged(2, fields), "curved"),
            std::vector<int64_t>(2, kSteps / 2 * kLayers * 2));
  expect_near(course("curved"), train(cpu(2, fields)), 5e-3);
}

TEST_F(CudaAttention, RefusesALibraryThatWantsMoreThanIsPlanned) {
  // More than the plan has for a call, less than for what is tried at start.
  Asked asked = staged(2, {"precision.mode=BF16"});
  asked.variables["MEMWALL_IMITATED_CUDNN_EXTRA_WORKSPACE"] = "33554400";
  const Outcome outcome = try_train("greedy", asked);
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_NE(outcome.err.find("cuDNN wants 33554400 bytes"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("are planned"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("run.fused_attention"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.out.find("step 1/"), std::string::npos) << "not at the start";
}

// The run's configuration says which it is.
TEST_F(CudaAttention, IsSettledBeforeTheRun) {
  const Words fields = {"precision.mode=BF16", "run.steps=1"};
  const auto said = [&](const std::string& folder) {
    return file_text(place.path(folder + "/config.textproto"));
  };
  train(staged(1, fields), "open");
  EXPECT_NE(said("open").find("fused_attention: true"), std::string::npos) << said("open");
  train(staged(1, {"run.steps=1"}), "fp32");
  EXPECT_EQ(said("fp32").find("fused_attention"), std::string::npos) << said("fp32");
  train(cpu(1, fields), "cpu");
  EXPECT_EQ(said("cpu").find("fused_attention"), std::string::npos) << said("cpu");

  Asked asked = staged(2, fields);
  asked.variables["MEMWALL_CUDNN"] = "/nonexistent/libcudnn.so.9";
  const Outcome without = try_train("without", asked);
  EXPECT_EQ(without.exit_code, 0) << without.err;
  EXPECT_NE(without.out.find("attention by products and softmax: cuDNN 9 cannot be opened"),
            std::string::npos)
      << without.out;
  EXPECT_NE(said("without").find("fused_attention: false"), std::string::npos);
  asked.set.push_back("run.fused_attention=true");
  const Outcome refused = try_train("refused", asked);
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("run.fused_attention: true: cuDNN 9 cannot be opened"),
            std::string::npos)
      << refused.err;
  EXPECT_FALSE(fs::exists(place.path("refused")));
}

}  // namespace
}  // namespace memwall::test
