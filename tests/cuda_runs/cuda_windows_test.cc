// Runs whose arenas are symmetric windows of NCCL's.
#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
const std::string kAsked = "communication.symmetric_windows=true";

int64_t number(const Json& object, const char* name) {
  return object.contains(name) ? object[name].get<int64_t>() : 0;
}

class CudaWindows : public CudaRuns {
 protected:
  static Asked windows(int ranks, const Words& fields) {
    Asked asked = nccl(ranks, with(fields, {kAsked}));
    asked.variables["MEMWALL_IMITATED_NCCL_GRANULARITY"] = std::to_string(8 * kMiB);
    return asked;
  }
  void expect_refused(const Asked& asked, int code, const std::string& part) {
    const Outcome outcome = try_train("refused", asked);
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
    fs::remove_all(place.path("refused"));
  }
};

TEST_F(CudaWindows, ChangeNoBit) {
  const Words fields = {"data.global_batch_size=12", "parallel.prefetch_depth=2"};
  for (int s = 0; s <= 3; ++s) {
    const Words all = s == 0 ? Words{fields[0], stage(0)} : with(fields, {stage(s)});
    const Course ordinary = train(nccl(2, all));
    for (const char* order : {"LATE", "EARLY", "RANDOM:1"}) {
      Asked asked = windows(2, all);
      asked.variables["MEMWALL_IMITATED_GPU_ORDER"] = order;
      EXPECT_EQ(train(asked), ordinary) << s << ' ' << order;
    }
  }
  const Words three = {"data.global_batch_size=6", stage(3)};
  EXPECT_EQ(train(windows(3, three)), train(nccl(3, three)));
}

TEST_F(CudaWindows, OneAllocationOfNcclsAndOneWindow) {
  const fs::path file = place.path("counts");
  Asked asked = windows(2, {stage(2)});
  asked.variables["MEMWALL_IMITATED_GPU_COUNTS"] = file.string();
  train(asked, "run");
  const auto planned = metrics("run")[0]["planned"]["memory"]["peak"].get<int64_t>();
  for (const Json& line : json_lines(file)) {
    const Json& calls = line["calls"];
    EXPECT_EQ(number(calls, "cudaMalloc"), 0);
    for (const char* once : {"ncclMemAlloc", "ncclMemFree", "ncclCommWindowRegister",
                             "ncclCommWindowDeregister", "ncclCommFinalize", "ncclCommDestroy"}) {
      EXPECT_EQ(number(calls, once), 1) << once;
    }
    EXPECT_EQ(number(calls, "ncclCommAbort"), 0);
    EXPECT_EQ(number(line["bytes"], "ncclMemAlloc"), planned);
  }
}

// What the driver's free memory fell by is the arena and its rounding, each with its name.
TEST_F(CudaWindows, TheRoundingIsPlannedAndMeasured) {
  train(windows(2, {stage(3)}), "run");
  train(nccl(2, {stage(3)}), "ordinary");
  for (int rank = 0; rank < 2; ++rank) {
    const Json line = metrics("run", rank)[0];
    const auto arena = line["planned"]["memory"]["peak"].get<int64_t>();
    ASSERT_NE(arena % (8 * kMiB), 0);
    EXPECT_EQ(line["measured"]["memory"]["outside"]["gpu_window_rounding"].get<int64_t>(),
              8 * kMiB - arena % (8 * kMiB));
    EXPECT_FALSE(metrics("ordinary", rank)[0]["measured"]["memory"]["outside"].contains(
        "gpu_window_rounding"));
  }
  const std::string name = "its rounding as a symmetric window, at most";
  EXPECT_NE(file_text(place.path("run/plan.txt")).find(name), std::string::npos);
  EXPECT_EQ(file_text(place.path("ordinary/plan.txt")).find(name), std::string::npos);
  // As without a GPU, and for another target.
  const Outcome plan = place.memwall({"plan", "tiny.textproto", "--ranks", "2", "--target",
                                      "sm_100", "--set", "run.device=CUDA", "--set", kAsked});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_NE(plan.out.find(name), std::string::npos) << plan.out;
}

TEST_F(CudaWindows, AreRefusedWhereThereAreNone) {
  expect_refused(staged(2, {kAsked}), 2,
                 "communication.symmetric_windows: true: only NCCL has windows, and the transport "
                 "is STAGED");
  expect_refused(nccl(1, {kAsked}), 2, "one rank has no other's memory to reach");
  expect_refused(cpu(2, {kAsked}), 2, "has no effect but with run.device CUDA");
  Asked asked = windows(2, {});
  asked.variables["MEMWALL_IMITATED_NCCL_WINDOWS"] = "0";
  expect_refused(asked, 2, "NCCL has no symmetric windows between these GPUs (leave it out; ");
}

TEST_F(CudaWindows, MoreRoundingThanPlannedIsRefused) {
  Asked asked = windows(2, {});
  asked.variables["MEMWALL_IMITATED_GPU_ARCH"] = "80";
  expect_refused(asked, 3, " are planned for sm_80");
  expect_refused(windows(2, {"memory.budget=100MiB"}), 3,
                 "the arena and its rounding as a symmetric window need ");
  Asked small = windows(2, {});
  small.variables["MEMWALL_IMITATED_GPU_BYTES"] = std::to_string(500 * kMiB);
  expect_refused(small, 3, "needs 536870912 bytes for its arena");
}

// Memory that is in use, or a window, ends the imitated process when it is freed.
TEST_F(CudaWindows, AreLeftInOrderByAnError) {
  Asked asked = windows(2, {"data.global_batch_size=12", stage(3), "parallel.prefetch_depth=2"});
  asked.variables["MEMWALL_IMITATED_GPU_REFUSE"] = "cudaMemcpyAsync:4";
  const Outcome outcome = try_train("fails", asked);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("CUDA: cudaMemcpyAsync: invalid argument"), std::string::npos)
      << outcome.err;
  EXPECT_EQ(outcome.err.find("ncclMemFree"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace memwall::test
