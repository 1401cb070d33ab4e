// Saving on GPUs, going on, and what other commands make of such a run without a GPU.
#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

class CudaResume : public CudaRuns {
 protected:
  void expect_resumed_as_if_never_stopped(Asked asked) {
    asked.set.insert(asked.set.end(), {"run.save_every=3", "run.steps=6"});
    const Course straight = train(asked, "straight");
    asked.set.back() = "run.steps=3";
    train(asked, "stopped");
    asked.set.back() = "run.steps=6";
    const Outcome outcome = try_train("stopped", asked, {"--resume"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("resumed from step 3"), std::string::npos) << outcome.out;
    EXPECT_EQ(outcome.out.find("not bitwise"), std::string::npos) << outcome.out;
    EXPECT_EQ(course("stopped"), straight);
    EXPECT_TRUE(weights("stopped") == weights("straight"));
  }
  void expect_refused(const Outcome& outcome, const std::string& part) {
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  }
};

TEST_F(CudaResume, BitwiseOnOneRank) {
  expect_resumed_as_if_never_stopped(staged(1, {"model.dropout=0.1"}));
}
TEST_F(CudaResume, BitwiseStagedWithWholeSlots) {
  expect_resumed_as_if_never_stopped(staged(2, {stage(0), "precision.mode=FP16"}));
}
TEST_F(CudaResume, BitwiseOverNcclWithShards) {
  Asked asked = nccl(2, {stage(3), "optimizer.kind=ADAHESSIAN"});
  asked.variables["MEMWALL_IMITATED_GPU_ORDER"] = "EARLY";
  expect_resumed_as_if_never_stopped(asked);
}

TEST_F(CudaResume, TheDeviceCannotChange) {
  const Words fields = {"run.save_every=5"};
  train(staged(1, fields), "gpu");
  train(cpu(1, fields), "cpu");
  expect_refused(try_train("gpu", cpu(1, fields), {"--resume"}),
                 "run.device=CPU: is CPU, but the run was started with CUDA (allowed: CUDA;");
  expect_refused(try_train("cpu", staged(1, fields), {"--resume"}),
                 "run.device=CUDA: is CUDA, but the run was started with CPU (allowed: CPU;");
}

// Configurations recorded AUTO when there was nothing else than CPUs.
TEST_F(CudaResume, RunsThatRecordedAutoAreOfCpus) {
  train(cpu(1, {"run.save_every=5"}), "old");
  std::string config = file_text(place.path("old/config.textproto"));
  const std::string device = "device: CPU";
  ASSERT_NE(config.find(device), std::string::npos) << config;
  config.replace(config.find(device), device.size(), "device: AUTO");
  write_text(place.path("old/config.textproto"), config);
  Asked asked = cpu(1, {"run.save_every=5"});
  asked.device = "AUTO";
  asked.gpus = 0;
  const Outcome outcome = try_train("old", asked, {"--resume"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
}

TEST_F(CudaResume, OtherCommandsNeedNoGpu) {
  const Words fields = {stage(3), "run.save_every=5", "run.eval_every=5"};
  train(nccl(2, fields), "run");
  const Environment environment(Variables{{"MEMWALL_CUDA_MODULE", "/nonexistent"}});
  const double trained = json_lines(place.path("run/validation.jsonl")).back()["loss"];
  for (const int ranks : {0, 2}) {
    const Outcome eval = place.memwall({"eval", "run", "--json"}, ranks);
    ASSERT_EQ(eval.exit_code, 0) << eval.err;
    EXPECT_NEAR(Json::parse(eval.out)["loss"].get<double>(), trained, 1e-6 * trained);
  }
  const Outcome generated =
      place.memwall({"generate", "run", "--prompt", "In the", "--tokens", "5"});
  EXPECT_EQ(generated.exit_code, 0) << generated.err;
  EXPECT_EQ(place.memwall({"show", "run"}).exit_code, 0);
  EXPECT_EQ(place.memwall({"export", "run", "weights"}).exit_code, 0);
}

TEST_F(CudaResume, StartsFromExportedWeights) {
  train(cpu(1, {"run.save_every=5"}), "source");
  ASSERT_EQ(place.memwall({"export", "source", "weights"}).exit_code, 0);
  const Words fields = {"model.init_from=weights"};
  const Course expected = train(cpu(2, fields));
  expect_near(train(nccl(2, with(fields, {stage(3)}))), expected, 1e-6);
  expect_near(train(staged(2, with(fields, {stage(1)}))), expected, 1e-6);
}

}  // namespace
}  // namespace memwall::test
