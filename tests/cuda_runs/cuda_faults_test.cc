// What cannot work, and what fails on the way: said once, on all ranks a non-zero exit, and soon.
#include <chrono>

#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

constexpr double kSoonSeconds = 10.0;

int occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

class CudaFaults : public CudaRuns {
 protected:
  // By GPUs: a copy in the first step, after its first micro-step.
  const std::string kLaterSend[3] = {"", "20", "4"};

  // One message with that part, and no run folder for what is known before the run starts.
  void expect_refused(const Asked& asked, int code, const std::string& part) {
    const Outcome outcome = try_train("refused", asked);
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
    EXPECT_EQ(occurrences(outcome.err, "memwall: "), 1) << outcome.err;
    EXPECT_FALSE(fs::exists(place.path("refused")));
  }

  // Two ranks, of which `rank` is started by the shell line `first`. Ends soon, with exit code 1.
  std::string fail(int gpus, int rank, const std::string& first, const Words& fields) {
    const Environment environment(Variables{{"MEMWALL_CUDA_MODULE", MEMWALL_IMITATED_MODULE},
                                            {"MEMWALL_IMITATED_GPUS", std::to_string(gpus)},
                                            {"MEMWALL_IMITATED_GPU_PATIENCE", "20"}});
    Words words = mpirun_command(2);
    words.insert(words.end(), {"sh", "-c",
                               "if test $OMPI_COMM_WORLD_RANK = " + std::to_string(rank) +
                                   "; then " + first + "\nfi; exec \"$0\" \"$@\"",
                               MEMWALL_BINARY, "train", "tiny.textproto", "--run-dir",
                               "fails-" + std::to_string(++failed_), "--set", "run.device=CUDA"});
    for (const std::string& field : fields) words.insert(words.end(), {"--set", field});
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = place.run(words);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), kSoonSeconds);
    EXPECT_NE(outcome.exit_code, 0) << outcome.err;
    return outcome.err;
  }

  // That rank's GPU fails; it says so by itself, with a step of the plan.
  void expect_said_by(int rank, int gpus, const std::string& fault, const std::string& what) {
    const std::string said = fail(gpus, rank, "export MEMWALL_IMITATED_GPU_FAULT=" + fault, {});
    const std::string who = "memwall: rank " + std::to_string(rank) + " on ";
    EXPECT_EQ(occurrences(said, "memwall: "), 1) << said;
    const size_t at = said.find(who);
    ASSERT_NE(at, std::string::npos) << said;
    const std::string line = said.substr(at, said.find('\n', at) - at);
    EXPECT_NE(line.find(": in '"), std::string::npos) << line;
    EXPECT_NE(line.find("' or a step before it: " + what), std::string::npos) << line;
    const std::string folder = "fails-" + std::to_string(failed_);
    const size_t name = line.find(": in '") + 6;
    const std::string step = line.substr(name, line.find('\'', name) - name);
    EXPECT_NE(file_text(place.path(folder + "/plan.txt")).find(step), std::string::npos) << step;
  }

 private:
  int failed_ = 0;
};

TEST_F(CudaFaults, NoModule) {
  Asked asked = staged(2, {});
  asked.variables["MEMWALL_CUDA_MODULE"] = "/nonexistent/module.so";
  expect_refused(asked, 2, "there is no CUDA module /nonexistent/module.so");
  asked.variables["MEMWALL_CUDA_MODULE"] = place.config().string();
  expect_refused(asked, 2, "the CUDA module cannot be opened: ");
}

// Where there is a driver this shows nothing.
TEST_F(CudaFaults, NoDriver) {
  if (fs::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a GPU";
  if (!fs::exists(MEMWALL_REAL_MODULE)) GTEST_SKIP() << "memwall_cuda is not built";
  Asked asked = staged(1, {});
  asked.variables["MEMWALL_CUDA_MODULE"] = MEMWALL_REAL_MODULE;
  expect_refused(asked, 2, "run.device: CUDA: no GPU can be used: ");
  asked.device = "AUTO";
  train(asked, "auto");
  EXPECT_NE(file_text(place.path("auto/config.textproto")).find("device: AUTO"), std::string::npos);
}

TEST_F(CudaFaults, NoGpu) {
  Asked asked = staged(2, {});
  asked.gpus = 0;
  expect_refused(asked, 2, "this host has no GPU that CUDA can use");
}

TEST_F(CudaFaults, AutoTakesTheCpuInSilence) {
  for (const bool module : {false, true}) {
    Asked asked = cpu(1, {"run.steps=1"});
    asked.device = "AUTO";
    asked.gpus = 0;
    if (!module) asked.variables["MEMWALL_CUDA_MODULE"] = "/nonexistent";
    const std::string folder = module ? "no-gpu" : "no-module";
    const Outcome outcome = try_train(folder, asked);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    EXPECT_NE(file_text(place.path(folder + "/config.textproto")).find("device: AUTO"),
              std::string::npos);
  }
  Asked asked = staged(1, {"run.steps=1"});
  asked.device = "AUTO";
  train(asked, "gpu");
  EXPECT_NE(file_text(place.path("gpu/config.textproto")).find("device: CUDA"), std::string::npos);
}

TEST_F(CudaFaults, TransportsThatDoNotServe) {
  expect_refused(staged(2, {"communication.transport=NCCL"}), 2,
                 "transport NCCL needs a GPU for each rank, but this host has 1 for 2 ranks");
  expect_refused(nccl(2, {"communication.transport=MPI"}), 2,
                 "MPI is not with run.device CUDA (allowed: AUTO, NCCL, STAGED)");
  expect_refused(cpu(2, {"communication.transport=STAGED"}), 2,
                 "STAGED is not with run.device CPU");
}

TEST_F(CudaFaults, ACapabilityWithoutPlans) {
  Asked asked = nccl(2, {});
  asked.variables["MEMWALL_IMITATED_GPU_ARCH"] = "70";
  expect_refused(asked, 2, "is of compute capability 7.0 (this version makes plans for sm_80");
}

// The later GPUs of a generation run the plans of its first one.
TEST_F(CudaFaults, ALaterGpuOfAGeneration) {
  Asked asked = nccl(2, {"run.steps=1"});
  asked.variables["MEMWALL_IMITATED_GPU_ARCH"] = "89";
  train(asked, "ada");
  EXPECT_NE(file_text(place.path("ada/plan.txt")).find("sm_80"), std::string::npos);
}

TEST_F(CudaFaults, AModuleBuiltForOtherGpus) {
  Asked asked = nccl(2, {});
  asked.variables["MEMWALL_IMITATED_GPU_ARCH"] = "100";
  asked.variables["MEMWALL_IMITATED_GPU_CODE"] = "90";
  const Outcome outcome = try_train("refused", asked);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
  EXPECT_NE(outcome.err.find("has no code for GPU"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("compute capability 10.0): it was built for "), std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("-DMEMWALL_CUDA_ARCHITECTURES=100-real"), std::string::npos)
      << outcome.err;
  EXPECT_EQ(occurrences(outcome.err, "memwall: "), 1) << outcome.err;
  EXPECT_FALSE(fs::exists(place.path("refused")));
}

// Arenas of 34 MiB; beside what CUDA takes for itself 40 MiB are free.
TEST_F(CudaFaults, TooLittleMemory) {
  Asked asked = staged(2, {});
  asked.variables["MEMWALL_IMITATED_GPU_BYTES"] = std::to_string((300 + 40) << 20);
  expect_refused(asked, 3,
                 "2 ranks on GPU 0 (Imitated GPU) need 71303168 bytes for their arenas, and "
                 "41943040 of its 356515840 are free");
  asked.gpus = 2;
  train(asked);
}

// As srun --gpus-per-task=1 does it: each rank sees one GPU, and each another.
TEST_F(CudaFaults, ALauncherThatShowsEachRankItsGpuMeansNccl) {
  const Environment environment(
      Variables{{"MEMWALL_CUDA_MODULE", MEMWALL_IMITATED_MODULE}, {"MEMWALL_IMITATED_GPUS", "1"}});
  Words words = mpirun_command(2);
  words.insert(
      words.end(),
      {"sh", "-c", "export MEMWALL_IMITATED_GPU_FIRST=$OMPI_COMM_WORLD_RANK; exec \"$0\" \"$@\"",
       MEMWALL_BINARY, "train", "tiny.textproto", "--run-dir", "each", "--set", "run.device=CUDA",
       "--set", "communication.transport=NCCL"});
  const Outcome outcome = place.run(words);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(course("each"), train(nccl(2, {})));
}

TEST_F(CudaFaults, HostsOfWhichOneHasNoGpu) {
  const std::string said = fail(1, 1, "export MEMWALL_IMITATED_GPUS=0", {"run.device=AUTO"});
  EXPECT_EQ(occurrences(said, "memwall: the ranks disagree about the device: rank 1 on "), 1)
      << said;
}

TEST_F(CudaFaults, AKernelOfOneRank) {
  const std::string what = "CUDA: ", why = "an illegal memory access was encountered";
  for (const int gpus : {1, 2}) {
    for (const int rank : {0, 1}) expect_said_by(rank, gpus, "cudaLaunchKernel:500", what);
  }
  Asked asked = nccl(2, {});
  asked.variables["MEMWALL_IMITATED_GPU_FAULT"] = "cudaLaunchKernel:500";
  const Outcome both = try_train("both", asked);
  EXPECT_EQ(both.exit_code, 1) << both.err;
  EXPECT_EQ(occurrences(both.err, why), 1) << both.err;
}

TEST_F(CudaFaults, ALibraryOfOneRank) {
  expect_said_by(1, 2, "cublasLtMatmul:200", "cuBLASLt: cublasLtMatmul: ");
  expect_said_by(1, 2, "ncclReduceScatter:3", "NCCL: ncclReduceScatter: ");
  expect_said_by(0, 1, "cudaMemcpyAsync:20", "CUDA: cudaMemcpyAsync: ");
}

// What is refused on one rank between two programs of a step, while collectives of the first are
// queued: the others end by its error, and nothing waits for what they no longer do.
TEST_F(CudaFaults, AnErrorThatIsNeitherTheGpusNorNccls) {
  for (const int gpus : {1, 2}) {
    for (const int rank : {0, 1}) {
      const std::string said =
          fail(gpus, rank, "export MEMWALL_IMITATED_GPU_REFUSE=cudaMemcpyAsync:" + kLaterSend[gpus],
               {"data.global_batch_size=12", stage(3), "parallel.prefetch_depth=2"});
      EXPECT_EQ(occurrences(said, "memwall: "), 1) << said;
      EXPECT_NE(said.find("CUDA: cudaMemcpyAsync: invalid argument"), std::string::npos) << said;
      EXPECT_NE(said.find("memwall: rank " + std::to_string(rank) + " on "), std::string::npos)
          << said;
    }
  }
}

// Rank 0 makes none of the collectives that rank 1 has queued: who waits for them to free their
// memory does not end.
TEST_F(CudaFaults, AnErrorIsSaidThoughAnotherRankHasStopped) {
  const std::string said = fail(2, 1,
                                "export MEMWALL_IMITATED_GPU_REFUSE=cudaMemcpyAsync:4\n"
                                "else export MEMWALL_IMITATED_GPU_HOLD=cudaMemcpyAsync:3",
                                {"data.global_batch_size=12", stage(3)});
  EXPECT_EQ(occurrences(said, "memwall: "), 1) << said;
  EXPECT_NE(said.find("memwall: rank 1 on "), std::string::npos) << said;
  EXPECT_NE(said.find("CUDA: cudaMemcpyAsync: invalid argument"), std::string::npos) << said;
}

// Which interface NCCL takes, whom it reaches: what goes wrong there shows as a start without end.
TEST_F(CudaFaults, NcclDoesNotStart) {
  const Words soon = {"communication.timeout_seconds=2"};
  const std::string what = "NCCL: ncclCommInitRankConfig is not done after 1.6 s: another rank ";
  Asked asked = nccl(2, soon);
  asked.variables["MEMWALL_IMITATED_NCCL_START"] = "NEVER";
  const Outcome everywhere = try_train("everywhere", asked);
  EXPECT_EQ(everywhere.exit_code, 1) << everywhere.err;
  EXPECT_EQ(occurrences(everywhere.err, "memwall: " + what), 1) << everywhere.err;
  EXPECT_EQ(occurrences(everywhere.err, "memwall: "), 1) << everywhere.err;
  for (const int rank : {0, 1}) {
    const std::string said = fail(2, rank, "export MEMWALL_IMITATED_NCCL_START=NEVER", soon);
    EXPECT_EQ(occurrences(said, "memwall: " + what), 1) << said;
  }
}

TEST_F(CudaFaults, NcclStartsOnOneRankOnly) {
  for (const std::string call : {"ncclCommInitRankConfig", "ncclGetUniqueId"}) {
    for (const int rank : {0, 1}) {
      if (rank == 1 && call == "ncclGetUniqueId") continue;  // rank 0's
      const std::string said = fail(2, rank, "export MEMWALL_IMITATED_GPU_FAULT=" + call + ":1",
                                    {"communication.timeout_seconds=4"});
      EXPECT_EQ(occurrences(said, "memwall: "), 1) << said;
      EXPECT_NE(said.find("NCCL: " + call + ": unhandled cuda error"), std::string::npos) << said;
    }
  }
}

TEST_F(CudaFaults, ARankThatDies) {
  for (const int gpus : {1, 2}) {
    const std::string said =
        fail(gpus, 1, "(sleep 1.5; kill -KILL $$) &", {"run.steps=100000", "run.log_every=100000"});
    EXPECT_EQ(occurrences(said, "rank 0 on "), 1) << said;
    EXPECT_NE(said.find(": terminated while in '"), std::string::npos) << said;
  }
}

TEST_F(CudaFaults, ARankThatHangs) {
  for (const int gpus : {1, 2}) {
    const std::string said =
        fail(gpus, 1, "(sleep 1.5; kill -STOP $$) &",
             {"run.steps=100000", "run.log_every=100000", "communication.timeout_seconds=2"});
    EXPECT_NE(said.find("rank 0 on "), std::string::npos) << said;
    EXPECT_NE(said.find(gpus == 1 ? "no answer for 2 s in '"
                                  : "NCCL: a call is not done after 2 s: another rank does not"),
              std::string::npos)
        << said;
  }
}

}  // namespace
}  // namespace memwall::test
