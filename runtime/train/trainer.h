// The step loop: data in, programs run, numbers out; saving, resuming and stopping on request.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "optim/loss_scale.h"
#include "optim/schedule.h"
#include "runtime/data/dataset.h"
#include "runtime/data/sampler.h"
#include "runtime/exec/executor.h"
#include "runtime/train/metrics.h"

namespace memwall {

struct TrainSettings {
  std::string run_dir;  // exists; holds config.textproto, plan.txt, environment.json
  int64_t steps = 0;
  int64_t log_every = 10;  // steps between progress lines on the screen
  int64_t eval_every = 0;  // 0: never; else also at the end
  int64_t save_every = 0;  // 0: only on request; else also at the end
  int64_t keep_checkpoints = 2;
  double time_limit_seconds = 0;  // 0: none; else from `started`
  int64_t seed = 1;
  Sampling sampling = Sampling::kShuffled;
  LearningRateSchedule schedule;
  LossScaleSettings loss_scale;
  int64_t curvature_every = 0;  // steps from one measurement of curvature to the next; 0: none
  int64_t global_batch = 1, micro_batch = 1, seq_length = 0;
  int64_t trace_first_step = 0, trace_last_step = 0;  // steps to trace, from 1; 0: none
  double peak_flops = 0;  // a rank's, for the utilisation; 0: not known, it is NaN
  bool resume = false;
  uint64_t plan_hash = 0, data_fingerprint = 0;
  std::string cpu_features;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  OutsideMemory outside;  // what the caller has marked; the trainer marks on
};

struct TrainResult {
  int64_t step = 0;                 // last finished step, from 1
  bool stopped_on_request = false;  // signal or time limit
  // Of the last step and the last evaluation of this process; NaN where there was none.
  double loss = std::numeric_limits<double>::quiet_NaN();
  double validation_loss = std::numeric_limits<double>::quiet_NaN();
};

// Fresh run: `initialise` has filled the parameters already when it returns (the init program,
// then weights of another model). Prints progress on rank 0. Writes metrics/rank-*.jsonl,
// validation.jsonl, checkpoints/ and trace/ below run_dir. All ranks return or throw together,
// except where one rank cannot write its metrics: it throws alone, and its process has to end the
// job.
TrainResult train(Executor& executor, const Dataset& data, const TrainSettings& settings,
                  const std::function<void(Executor&)>& initialise);

// Mean validation loss over all windows: sums in FP64 in window order, on every rank the same.
// Collective.
struct Evaluation {
  double loss = 0.0;
  int64_t tokens = 0;
};
Evaluation evaluate(Executor& executor, const TokenRange& validation, int64_t seq_length,
                    int64_t micro_batch);

}  // namespace memwall
