// What the plan says of a run on GPUs, against what the imitated libraries were asked for.
#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

constexpr int kSteps = 5;

using CudaPlanned = CudaRuns;

TEST_F(CudaPlanned, NcclMovesWhatIsPlanned) {
  for (const int ranks : {2, 3}) {
    for (int s = 0; s <= 3; ++s) {
      const std::string folder = std::to_string(ranks) + "-" + std::to_string(s);
      const std::string batch = "data.global_batch_size=" + std::to_string(2 * ranks);
      const auto counts = counts_of(nccl(ranks, {batch, stage(s)}), folder);
      const Json planned = metrics(folder)[0]["planned"]["traffic"];
      for (const Json& line : counts) {
        const Json &calls = line["calls"], &bytes = line["bytes"];
        const auto expect = [&](const char* kind, const char* call, int64_t parts) {
          EXPECT_EQ(number(calls, call), kSteps * planned[kind]["calls"].get<int64_t>())
              << call << " stage " << s;
          EXPECT_EQ(parts * number(bytes, call),
                    kSteps * planned[kind]["payload_bytes"].get<int64_t>())
              << call << " stage " << s;
        };
        expect("all_gather", "ncclAllGather", ranks);
        expect("reduce_scatter", "ncclReduceScatter", ranks);
        expect("all_reduce", "ncclAllReduce", 1);
        EXPECT_EQ(number(calls, "ncclBroadcast") + number(calls, "ncclSend"), 0);
      }
      EXPECT_GT(number(counts[0]["calls"], "ncclAllGather"), 0) << s;
    }
  }
}

TEST_F(CudaPlanned, OneAllocationOfTheArenasSize) {
  for (const bool shared : {false, true}) {
    const std::string folder = shared ? "shared" : "own";
    const Words fields = {stage(2), "run.save_every=2", "run.eval_every=2"};
    const auto counts = counts_of(shared ? staged(2, fields) : nccl(2, fields), folder);
    for (const Json& line : counts) {
      EXPECT_EQ(number(line["calls"], "cudaMalloc"), 1);
      EXPECT_EQ(number(line["calls"], "cudaFree"), 1);
      EXPECT_EQ(number(line["bytes"], "cudaMalloc"),
                metrics(folder)[0]["planned"]["memory"]["peak"].get<int64_t>());
      // Pinned: eight parcels of input or scalars, and what is staged.
      constexpr int64_t kParcels = 8 * 256;
      EXPECT_EQ(number(line["bytes"], "cudaMallocHost") > kParcels, shared);
      EXPECT_GT(number(line["bytes"], "cudaMallocHost"), 0);
      EXPECT_EQ(number(line["calls"], "cudaMallocHost"), number(line["calls"], "cudaFreeHost"));
      EXPECT_EQ(number(line["bytes"], "cudaMemcpyHostToHost"), 0);
    }
    EXPECT_EQ(metrics(folder)[4]["measured"]["memory"]["outside"]["gpu_libraries"], 0);
  }
}

// What is pinned for staging is taken in the first step.
TEST_F(CudaPlanned, StagingTakesNoMoreWithMoreSteps) {
  const Words fields = {stage(3), "parallel.prefetch_depth=2"};
  const auto few = counts_of(staged(2, with(fields, {"run.steps=1"})), "few");
  const auto many = counts_of(staged(2, with(fields, {"run.steps=6"})), "many");
  EXPECT_EQ(number(few[0]["bytes"], "cudaMallocHost"), number(many[0]["bytes"], "cudaMallocHost"));
  // All that is sent leaves the GPU, and all that is received arrives, besides input and scalars.
  const Json planned = metrics("few")[0]["planned"]["traffic"];
  int64_t out = 0, in = 0;
  for (const char* kind : {"all_gather", "reduce_scatter", "all_reduce"}) {
    const auto payload = planned[kind]["payload_bytes"].get<int64_t>();
    out += std::string(kind) == "all_gather" ? payload / 2 : payload;
    in += std::string(kind) == "reduce_scatter" ? payload / 2 : payload;
  }
  const auto per_step = [&](const char* direction) {
    return (number(many[0]["bytes"], direction) - number(few[0]["bytes"], direction)) / 5;
  };
  constexpr int64_t kMostScalars = 512, kTokens = 2 * 2 * 16 * 4;
  EXPECT_GE(per_step("cudaMemcpyDeviceToHost"), out);
  EXPECT_LE(per_step("cudaMemcpyDeviceToHost"), out + kMostScalars);
  EXPECT_GE(per_step("cudaMemcpyHostToDevice"), in + kTokens);
  EXPECT_LE(per_step("cudaMemcpyHostToDevice"), in + kTokens + kMostScalars);
}

// Transfers of a step, and with it time, are seen by their steps.
TEST_F(CudaPlanned, TracesWhatThePlanNames) {
  train(nccl(2, {stage(3), "run.trace_steps=2"}), "traced");
  const std::string plan = file_text(place.path("traced/plan.txt"));
  const Json trace = Json::parse(file_text(place.path("traced/trace/rank-00001.json")));
  size_t named = 0;
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] != "X" || event["tid"] > 1) continue;
    ++named;
    EXPECT_NE(plan.find(' ' + event["name"].get<std::string>() + "  -> "), std::string::npos);
  }
  EXPECT_GT(named, 100u);
  EXPECT_NE(plan.find("sm_90"), std::string::npos);
}

}  // namespace
}  // namespace memwall::test
