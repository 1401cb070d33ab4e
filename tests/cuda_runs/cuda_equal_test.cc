// Runs on imitated GPUs compute what runs on CPUs compute, and the same bits under every stage,
// transport and order of the GPU's queues.
#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

constexpr double kFp32 = 1e-6;

class CudaEqual : public CudaRuns {
 protected:
  static Asked ordered(Asked asked, const std::string& order) {
    asked.variables["MEMWALL_IMITATED_GPU_ORDER"] = order;
    return asked;
  }
};

TEST_F(CudaEqual, OneRank) {
  const Words fields = {"model.dropout=0.1", "data.global_batch_size=6"};
  const Course late = train(ordered(staged(1, fields), "LATE"));
  expect_near(late, train(cpu(1, fields)), kFp32);
  EXPECT_EQ(train(ordered(staged(1, fields), "EARLY")), late);
  EXPECT_EQ(train(ordered(staged(1, fields), "RANDOM:1")), late);
}

TEST_F(CudaEqual, TheHostTouchesNoMemoryOfTheGpu) {
  Asked asked = staged(1, {"run.steps=1", "run.save_every=1", "run.eval_every=1"});
  asked.variables["MEMWALL_IMITATED_GPU_PROTECT"] = "1";
  train(asked);
}

// NCCL's imitation adds in rank order too, so that both transports give the same bits.
TEST_F(CudaEqual, AllStagesBitwiseAndTheirWeights) {
  const Words fields = {"model.dropout=0.1", "run.save_every=5"};
  const Course expected = train(cpu(2, fields));
  const Course first = train(staged(2, with(fields, {stage(0)})), "staged-0");
  expect_near(first, expected, kFp32);
  const std::string exported = weights("staged-0");
  for (int s = 0; s <= 3; ++s) {
    const std::string number = std::to_string(s);
    const Words staged_fields = with(fields, {stage(s), "parallel.prefetch_depth=1"});
    EXPECT_EQ(train(nccl(2, with(fields, {stage(s)})), "nccl-" + number), first) << s;
    EXPECT_TRUE(weights("nccl-" + number) == exported) << s;
    if (s == 0) continue;
    EXPECT_EQ(train(staged(2, staged_fields), "staged-" + number), first) << s;
    EXPECT_TRUE(weights("staged-" + number) == exported) << s;
  }
}

// With several micro-steps stages 2 and 3 add the scattered gradients, 0 and 1 the whole ones.
TEST_F(CudaEqual, ThreeMicroSteps) {
  const Words fields = {"data.global_batch_size=12", "parallel.prefetch_depth=2"};
  const Course expected = train(cpu(2, {fields[0]}));
  const Course whole = train(staged(2, {fields[0], stage(0)}));
  const Course sharded = train(staged(2, with(fields, {stage(3)})));
  expect_near(whole, expected, kFp32);
  expect_near(sharded, expected, kFp32);
  EXPECT_EQ(train(nccl(2, {fields[0], stage(1)})), whole);
  EXPECT_EQ(train(staged(2, {fields[0], stage(2)})), sharded);
  EXPECT_EQ(train(nccl(2, with(fields, {stage(3)}))), sharded);
}

TEST_F(CudaEqual, StagedInEveryOrder) {
  const Words fields = {"data.global_batch_size=12", "parallel.prefetch_depth=2", stage(3)};
  const Course expected = train(cpu(2, fields));
  const Course late = train(ordered(staged(2, fields), "LATE"));
  expect_near(late, expected, kFp32);
  for (const char* order : {"EARLY", "RANDOM:1", "RANDOM:2"}) {
    EXPECT_EQ(train(ordered(staged(2, fields), order)), late) << order;
  }
  // A stage-0 gradient is gathered from where its scatter is still to arrive.
  const Course whole = train(ordered(staged(2, {stage(0)}), "LATE"));
  EXPECT_EQ(train(ordered(staged(2, {stage(0)}), "RANDOM:3")), whole);
}

TEST_F(CudaEqual, NcclInEveryOrder) {
  const Words fields = {"data.global_batch_size=12", "parallel.prefetch_depth=2", stage(3)};
  const Course expected = train(cpu(2, fields));
  const Course late = train(ordered(nccl(2, fields), "LATE"));
  expect_near(late, expected, kFp32);
  for (const char* order : {"EARLY", "RANDOM:1", "RANDOM:2"}) {
    EXPECT_EQ(train(ordered(nccl(2, fields), order)), late) << order;
  }
}

TEST_F(CudaEqual, RecomputedOrPrefetchedBitwise) {
  const Words fields = {"model.dropout=0.1", stage(3)};
  const Course kept = train(nccl(2, fields));
  const std::string policy = "activation_checkpointing.policy=";
  EXPECT_EQ(train(nccl(2, with(fields, {policy + "BLOCK", "parallel.prefetch_depth=1"}))), kept);
  EXPECT_EQ(train(staged(2, with(fields, {policy + "SELECTIVE", "parallel.prefetch_depth=2",
                                          "activation_checkpointing.keep=*attention*"}))),
            kept);
  EXPECT_EQ(train(ordered(nccl(2, with(fields, {policy + "BLOCK", "parallel.prefetch_depth=2"})),
                          "RANDOM:4")),
            kept);
}

TEST_F(CudaEqual, FourAndEightRanks) {
  const Words four = {"data.global_batch_size=8"}, eight = {"data.global_batch_size=16"};
  const Course expected = train(cpu(4, four));
  const Course staged_four = train(staged(4, with(four, {stage(2)})));
  expect_near(staged_four, expected, kFp32);
  EXPECT_EQ(train(nccl(4, with(four, {stage(3), "parallel.prefetch_depth=1"}))), staged_four);
  expect_near(train(staged(8, with(eight, {stage(3)}))), train(cpu(8, eight)), kFp32);
}

}  // namespace
}  // namespace memwall::test
