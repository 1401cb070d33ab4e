// The algorithms of products are rank 0's on all ranks. The imitated cuBLASLt can propose another
// algorithm, with other bits, on each rank by itself.
#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

class CudaProducts : public CudaRuns {
 protected:
  // Two ranks, of which `rank` has these variables besides.
  Outcome run_with(int gpus, int rank, const std::string& variables, const std::string& folder,
                   const Words& fields) const {
    const Environment environment(Variables{{"MEMWALL_CUDA_MODULE", MEMWALL_IMITATED_MODULE},
                                            {"MEMWALL_IMITATED_GPUS", std::to_string(gpus)},
                                            {"MEMWALL_IMITATED_GPU_PATIENCE", "30"}});
    Words words = mpirun_command(2);
    words.insert(words.end(), {"sh", "-c",
                               "if test $OMPI_COMM_WORLD_RANK = " + std::to_string(rank) +
                                   "; then export " + variables + "; fi; exec \"$0\" \"$@\"",
                               MEMWALL_BINARY, "train", "tiny.textproto", "--run-dir", folder,
                               "--set", "run.device=CUDA"});
    for (const std::string& field : fields) words.insert(words.end(), {"--set", field});
    return place.run(words);
  }
  static Asked in_halves(Asked asked) {
    asked.variables["MEMWALL_IMITATED_GEMM_HALVES"] = "1";
    return asked;
  }
};

TEST_F(CudaProducts, AreThoseThatRank0Chooses) {
  const std::string other = "MEMWALL_IMITATED_GEMM_HALVES=1";
  int run = 0;
  for (const int gpus : {1, 2}) {
    for (const Words& fields :
         {Words{stage(3), "optimizer.kind=ADAHESSIAN"},
          Words{stage(0), "precision.mode=BF16", "activation_checkpointing.policy=BLOCK",
                "model.hidden_size=64"}}) {
      const auto asked = gpus == 1 ? staged(2, fields) : nccl(2, fields);
      const Course ordinary = train(asked), halves = train(in_halves(asked));
      ASSERT_NE(ordinary, halves);  // so that a rank that chose by itself would show
      for (const int rank : {0, 1}) {
        const std::string folder = "other-" + std::to_string(++run);
        const Outcome outcome = run_with(gpus, rank, other, folder, fields);
        ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
        EXPECT_EQ(course(folder), rank == 0 ? halves : ordinary) << gpus << ' ' << rank;
      }
    }
  }
}

// What a step starts is what was prepared: every program, evaluation included, in every iteration.
TEST_F(CudaProducts, AreAskedForOnce) {
  const fs::path file = place.path("counts");
  Asked asked = nccl(2, {stage(3), "run.eval_every=2", "optimizer.kind=ADAHESSIAN",
                         "optimizer.adahessian.update_every=2", "run.steps=4"});
  asked.variables["MEMWALL_IMITATED_GPU_COUNTS"] = file.string();
  train(asked);
  for (const Json& line : json_lines(file)) {
    const Json& calls = line["calls"];
    EXPECT_EQ(calls.contains("cublasLtMatmulAlgoGetHeuristic"), line["rank"] == 0);
    EXPECT_GT(calls["cublasLtMatmulAlgoCheck"].get<int>(), 15);
    EXPECT_GT(calls["cublasLtMatmul"].get<int>(), 10 * calls["cublasLtMatmulAlgoCheck"].get<int>());
  }
}

TEST_F(CudaProducts, AChoiceThatAGpuCannotTakeIsRefused) {
  for (const int rank : {0, 1}) {
    const std::string number = std::to_string(rank);
    const auto expect = [&](const std::string& variable, const std::string& what) {
      const Outcome outcome = run_with(2, rank, variable, "refused-" + number, {});
      EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
      const std::string said = "memwall: rank " + number + " on ";
      EXPECT_NE(outcome.err.find(said), std::string::npos) << outcome.err;
      EXPECT_NE(outcome.err.find(": cuBLASLt: the algorithm that rank 0 has chosen for the product "
                                 "("),
                std::string::npos)
          << outcome.err;
      EXPECT_NE(outcome.err.find(what), std::string::npos) << outcome.err;
      fs::remove_all(place.path("refused-" + number));
    };
    expect("MEMWALL_IMITATED_GPU_REFUSE=cublasLtMatmulAlgoCheck:3", " does not run on this GPU: ");
    expect("MEMWALL_IMITATED_GEMM_WORKSPACE=33554432",
           " needs 37748736 bytes of workspace here, and 33554176 are planned");
  }
}

}  // namespace
}  // namespace memwall::test
