// What the benchmarks of whole steps share: a run of a configuration on synthetic tokens.
#pragma once

#include "runtime/cli/job.h"
#include "runtime/cli/verbs.h"
#include "runtime/config/config.h"
#include "runtime/plan/plan.h"
#include "runtime/train/step_runner.h"

namespace memwall {

struct BenchRun {
  config::Config config;  // effective
  Plan plan;
  int64_t tokens = 0;  // a step, over all ranks
  int64_t model_flops = 0;
};

// Collective: connects the job. Throws on all ranks where the configuration cannot run, does not
// fit, or the ranks do not agree. CONFIG's data are not read.
BenchRun bench_run(const ConfigOptions& options, Job& job);

// Uniform over the vocabulary; element e of global sample s is a function of the seed, s and e.
MicroBatchFeed synthetic_tokens(const config::Config& config, const Communicator& comm);

// Whether some steps measure curvature, and others do not.
bool has_two_kinds(const Plan& plan);

// The largest of all ranks'. Collective.
double slowest(Communicator& comm, double seconds);

}  // namespace memwall
