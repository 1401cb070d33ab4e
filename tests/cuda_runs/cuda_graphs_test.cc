// Runs with CUDA graphs on imitated GPUs compute the bits of runs without, move what is planned,
// and ask less of the host.
#include <chrono>

#include "tests/cuda_runs/cuda_runs.h"

namespace memwall::test {
namespace {

constexpr const char* kGraphs = "run.cuda_graphs=true";

class CudaGraphs : public CudaRuns {
 protected:
  static Asked ordered(Asked asked, const std::string& order) {
    asked.variables["MEMWALL_IMITATED_GPU_ORDER"] = order;
    return asked;
  }
  static Asked graphs(Asked asked) {
    asked.set.push_back(kGraphs);
    return asked;
  }

  // Losses, norms and final weights, in every order of the queues.
  void expect_same_bits(Asked asked, const Words& orders = {"LATE", "EARLY", "RANDOM:1"}) {
    asked.set.push_back("run.save_every=100");
    const std::string plain = "plain-" + std::to_string(++cases_);
    const Course expected = train(asked, plain);
    const std::string exported = weights(plain);
    for (const std::string& order : orders) {
      const std::string folder = plain + "-" + order;
      EXPECT_EQ(train(graphs(ordered(asked, order)), folder), expected) << folder;
      EXPECT_TRUE(weights(folder) == exported) << folder;
    }
  }

  // Launches that reached the GPU: by the host, or by a graph.
  static int64_t executed(const Json& line, const char* call) {
    return number(line["calls"], call) - number(line["captured"], call) +
           number(line["replayed"], call);
  }

 private:
  int cases_ = 0;
};

const Words kThreeMicroSteps = {"model.dropout=0.1", "data.global_batch_size=12"};

TEST_F(CudaGraphs, OneRank) {
  expect_same_bits(staged(1, kThreeMicroSteps), {"LATE", "EARLY", "RANDOM:1", "RANDOM:2"});
}

TEST_F(CudaGraphs, NcclAtEveryStage) {
  for (int s = 0; s <= 3; ++s) {
    expect_same_bits(nccl(2, with(kThreeMicroSteps, {stage(s), "parallel.prefetch_depth=1"})));
  }
}

TEST_F(CudaGraphs, StagedAtEveryStage) {
  for (int s = 0; s <= 3; ++s) {
    expect_same_bits(staged(2, with(kThreeMicroSteps, {stage(s), "parallel.prefetch_depth=1"})));
  }
}

// Step 2 is captured. NCCL gives no communicator up while a graph has its calls, which one does
// that is being captured.
TEST_F(CudaGraphs, ACallThatFailsWhileItIsCaptured) {
  train(nccl(2, {stage(2)}), "counted");
  const auto calls =
      metrics("counted")[0]["planned"]["traffic"]["reduce_scatter"]["calls"].get<int64_t>();
  Asked asked = graphs(nccl(2, {stage(2)}));
  asked.variables["MEMWALL_IMITATED_GPU_REFUSE"] = "ncclReduceScatter:" + std::to_string(calls + 2);
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = try_train("refused", asked);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 15.0);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("NCCL: ncclReduceScatter"), std::string::npos) << outcome.err;
}

TEST_F(CudaGraphs, FourRanks) {
  const Words fields = {"data.global_batch_size=16", stage(3), "parallel.prefetch_depth=2"};
  expect_same_bits(nccl(4, fields), {"LATE", "RANDOM:3"});
  expect_same_bits(staged(4, fields), {"LATE", "RANDOM:3"});
}

TEST_F(CudaGraphs, RecomputedActivations) {
  const std::string policy = "activation_checkpointing.policy=";
  const Words fields = {"model.dropout=0.1", stage(3), policy + "BLOCK"};
  expect_same_bits(nccl(2, fields));
  expect_same_bits(staged(2, with(fields, {"parallel.prefetch_depth=2"})));
}

// Steps with a measurement of curvature and steps without are both captured.
TEST_F(CudaGraphs, AdaHessian) {
  const Words fields = {"optimizer.kind=ADAHESSIAN", "optimizer.adahessian.update_every=2",
                        "data.global_batch_size=8", "run.steps=8", stage(2)};
  expect_same_bits(nccl(2, fields));
  expect_same_bits(staged(2, fields));
}

// Scales that change from step to step, and steps that are skipped.
TEST_F(CudaGraphs, LossScalesThatOverflow) {
  const Words fields = {"precision.mode=FP16", "precision.initial_loss_scale=1e12",
                        "precision.backoff=0.01", "precision.growth_interval=2", "run.steps=8"};
  std::vector<Json> plain, captured;
  for (const bool with_graphs : {false, true}) {
    const Asked asked = nccl(2, with(fields, {stage(3)}));
    const std::string folder = with_graphs ? "captured" : "plain";
    const Outcome outcome = try_train(folder, with_graphs ? graphs(asked) : asked);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    (with_graphs ? captured : plain) = metrics(folder);
  }
  ASSERT_EQ(captured.size(), plain.size());
  int skipped = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    for (const char* name : {"loss", "grad_norm", "skipped", "loss_scale"}) {
      EXPECT_EQ(captured[i][name], plain[i][name]) << name << ' ' << i;
    }
    skipped += plain[i]["skipped"].get<bool>() ? 1 : 0;
  }
  EXPECT_GE(skipped, 2);
  EXPECT_LT(skipped, 8);
}

// Between evaluations, and steps that are traced, which run one by one.
TEST_F(CudaGraphs, WithEvaluationAndTracedSteps) {
  for (const int gpus : {1, 2}) {
    Asked asked = staged(2, with(kThreeMicroSteps, {stage(3), "run.steps=8", "run.eval_every=2",
                                                    "run.trace_steps=4-5"}));
    asked.gpus = gpus;
    const std::string name = std::to_string(gpus);
    const Course expected = train(asked, "plain" + name);
    EXPECT_EQ(train(graphs(asked), "captured" + name), expected);
    EXPECT_EQ(file_text(place.path("captured" + name + "/validation.jsonl")),
              file_text(place.path("plain" + name + "/validation.jsonl")));
    const auto events = [&](const std::string& folder) {
      const Json trace = Json::parse(file_text(place.path(folder + "/trace/rank-00001.json")));
      size_t named = 0;
      for (const Json& event : trace["traceEvents"]) named += event["ph"] == "X" ? 1 : 0;
      return named;
    };
    EXPECT_GT(events("captured" + name), 300u);
  }
}

TEST_F(CudaGraphs, MayBeTurnedOnWhenARunGoesOn) {
  Asked asked = nccl(2, with(kThreeMicroSteps, {"run.save_every=4", "run.steps=8"}));
  const Course expected = train(asked, "straight");
  asked.set.back() = "run.steps=4";
  train(asked, "stopped");
  asked.set.back() = "run.steps=8";
  const Outcome outcome = try_train("stopped", graphs(asked), {"--resume"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(course("stopped"), expected);
}

// By the libraries' own count, whoever made the calls.
TEST_F(CudaGraphs, MoveWhatIsPlanned) {
  constexpr int kSteps = 5, kRanks = 2;
  for (int s = 0; s <= 3; ++s) {
    const std::string folder = "nccl-" + std::to_string(s);
    const auto counts = counts_of(graphs(nccl(kRanks, with(kThreeMicroSteps, {stage(s)}))), folder);
    const Json planned = metrics(folder)[0]["planned"]["traffic"];
    for (const Json& line : counts) {
      const auto expect = [&](const char* kind, const char* call, int64_t parts) {
        EXPECT_EQ(executed(line, call), kSteps * planned[kind]["calls"].get<int64_t>())
            << call << s;
        EXPECT_EQ(parts * number(line["bytes"], call),
                  kSteps * planned[kind]["payload_bytes"].get<int64_t>())
            << call << s;
      };
      expect("all_gather", "ncclAllGather", kRanks);
      expect("reduce_scatter", "ncclReduceScatter", kRanks);
      expect("all_reduce", "ncclAllReduce", 1);
    }
    EXPECT_GT(number(counts[0]["replayed"], "ncclReduceScatter"), 0) << s;
  }
  // What is staged is copied by the host in both cases.
  const Words fields = with(kThreeMicroSteps, {stage(3)});
  const auto plain = counts_of(staged(kRanks, fields), "plain");
  const auto captured = counts_of(graphs(staged(kRanks, fields)), "captured");
  for (const char* direction : {"cudaMemcpyDeviceToHost", "cudaMemcpyHostToDevice"}) {
    EXPECT_EQ(number(captured[0]["bytes"], direction), number(plain[0]["bytes"], direction));
  }
}

// After the second step the host launches graphs alone, but for segments of a few kernels between
// the transfers of the host.
TEST_F(CudaGraphs, TheHostLaunchesLess) {
  constexpr const char* kLaunch = "cudaLaunchKernel";
  for (const int gpus : {1, 2}) {
    Asked asked = staged(2, with(kThreeMicroSteps, {stage(3), "run.steps=4"}));
    asked.gpus = gpus;
    const std::string name = std::to_string(gpus);
    const Json few = counts_of(graphs(asked), "few" + name)[0];
    asked.set.back() = "run.steps=9";
    const Json many = counts_of(graphs(asked), "many" + name)[0];
    const Json plain = counts_of(asked, "plain" + name)[0];
    for (const char* call : {kLaunch, "cublasLtMatmul"}) {
      EXPECT_EQ(executed(many, call), number(plain["calls"], call)) << call;
    }
    const int64_t per_step = number(plain["calls"], kLaunch) / 9;
    const int64_t grown = (number(many["calls"], kLaunch) - number(few["calls"], kLaunch)) / 5;
    if (gpus == 2) {
      EXPECT_EQ(grown, 0);
      EXPECT_EQ(number(many["calls"], "cublasLtMatmul"), number(few["calls"], "cublasLtMatmul"));
    } else {
      EXPECT_LT(grown, per_step / 10);
    }
    EXPECT_GT(number(many["calls"], "cudaGraphLaunch"), number(few["calls"], "cudaGraphLaunch"));
    EXPECT_EQ(number(many["calls"], "cudaGraphInstantiate"),
              number(few["calls"], "cudaGraphInstantiate"));
    for (const char* call : {"cudaGraphDestroy", "cudaGraphExecDestroy"}) {
      EXPECT_EQ(number(many["calls"], call), number(many["calls"], "cudaGraphInstantiate"));
    }
  }
}

TEST_F(CudaGraphs, TheirMemoryHasALine) {
  for (const bool with_graphs : {false, true}) {
    const std::string folder = with_graphs ? "captured" : "plain";
    const Asked asked = nccl(2, {stage(2)});
    train(with_graphs ? graphs(asked) : asked, folder);
    const Json outside = metrics(folder)[4]["measured"]["memory"]["outside"];
    EXPECT_EQ(outside["gpu_graphs"].get<int64_t>() > 0, with_graphs);
    EXPECT_EQ(outside["gpu_libraries"], 0);
  }
}

// A step's time is divided as without graphs: the marks are in the graphs.
TEST_F(CudaGraphs, StepsAreTimed) {
  train(graphs(nccl(2, with(kThreeMicroSteps, {stage(3), "parallel.prefetch_depth=1"}))), "run");
  for (const Json& line : metrics("run")) {
    const Json& seconds = line["measured"]["seconds"];
    const auto of = [&](const char* name) { return seconds[name].get<double>(); };
    EXPECT_GT(of("compute"), 0.0);
    EXPECT_GT(of("update"), 0.0);
    EXPECT_GT(of("exposed_communication") + of("wait"), 0.0);
    const double parts = of("input") + of("compute") + of("progress") + of("update") + of("wait") +
                         of("exposed_communication") + of("other");
    EXPECT_NEAR(parts, of("total"), 1e-6);
    EXPECT_LE(of("compute") + of("update"), of("total"));
    EXPECT_GE(of("compute"), of("update"));
  }
}

// What fails in a replay bears the names of the segment's first and last step, as far as is known.
TEST_F(CudaGraphs, FailuresNameTheSegment) {
  const auto said = [&](const std::string& fault) {
    Asked asked = graphs(staged(1, kThreeMicroSteps));
    asked.variables["MEMWALL_IMITATED_GPU_FAULT"] = fault;
    const Outcome outcome = try_train("fails-" + fault, asked);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
    return outcome.err;
  };
  const auto expect_part = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  };
  const std::string replayed = said("cudaGraphLaunch:7");
  expect_part(replayed, "in 'embedding");
  expect_part(replayed, " ... ");
  expect_part(replayed, "' or a step before it: CUDA: cudaGraphLaunch: ");
  const std::string captured = said("cudaStreamEndCapture:2");
  expect_part(captured, "' was captured: CUDA: cudaStreamEndCapture: ");
  expect_part(captured, "(run.cuda_graphs: false queues steps one by one)");
  // It is captured; what shows it comes behind the launch.
  const std::string later = said("cudaLaunchKernel:450");
  expect_part(later, "' or a step before it: ");
  expect_part(later, "an illegal memory access was encountered");
}

// NCCL is given up only when no graph holds its calls: the imitated one insists.
TEST_F(CudaGraphs, ARankThatHangsIsNoticed) {
  const Environment environment(Variables{{"MEMWALL_CUDA_MODULE", MEMWALL_IMITATED_MODULE},
                                          {"MEMWALL_IMITATED_GPUS", "2"},
                                          {"MEMWALL_IMITATED_GPU_PATIENCE", "20"}});
  Words words = mpirun_command(2);
  words.insert(words.end(),
               {"sh", "-c",
                "if test $OMPI_COMM_WORLD_RANK = 1; then (sleep 1.5; kill -STOP $$) &\n"
                "fi; exec \"$0\" \"$@\"",
                MEMWALL_BINARY, "train", "tiny.textproto", "--run-dir", "hangs"});
  for (const char* field : {"run.device=CUDA", "run.steps=100000", "run.log_every=100000",
                            "communication.timeout_seconds=2", kGraphs}) {
    words.insert(words.end(), {"--set", field});
  }
  const Outcome outcome = place.run(words);
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_NE(outcome.err.find("NCCL: a call is not done after 2 s: another rank does not make it"),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(outcome.err.find("this never ends"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace memwall::test
