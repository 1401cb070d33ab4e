// One optimizer step: the host's side of the plan's programs. Private to this room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/ledger.h"
#include "runtime/base/scalars.h"
#include "runtime/data/sampler.h"
#include "runtime/exec/executor.h"
#include "runtime/train/requests.h"
#include "runtime/train/trainer.h"

namespace memwall {

// What a step did, as its scalars and this rank's clock say.
struct StepReport {
  double loss = 0.0, grad_norm = 0.0, learning_rate = 0.0, loss_scale = 1.0;  // a rank's mean
  bool skipped = false;
  StepRequests agreed;
  double seconds = 0.0, input_seconds = 0.0, micro_step_seconds = 0.0, update_seconds = 0.0;
  Ledger traffic;  // of the step's programs
};

class StepRunner {
 public:
  // The arguments must outlive it. Throws InternalError where the plan has other sizes.
  StepRunner(Executor& executor, const TokenRange& training, const TrainSettings& settings);

  // `step` counts from 0; `applied` of the steps before were not skipped; `loss_scale`: of one
  // rank's micro-step mean (optim/loss_scale.h).
  StepReport run(int64_t step, int64_t applied, double loss_scale, const StepRequests& requests);
  // Where the last step's overflow began (overflow.h); `step` as given to run. Collective.
  std::string overflow_origin(int64_t step);

  double tokens() const;                      // a step, over all ranks
  std::vector<std::string> programs() const;  // that a step runs

 private:
  double& scalar(Scalar which);
  void write_scalars(int64_t step, int64_t applied, double loss_scale,
                     const StepRequests& requests);
  void feed(int64_t step, int64_t micro_step);
  void read_scalars(StepReport& report);

  Executor& executor_;
  const TrainSettings& settings_;
  const Sampler sampler_;
  const BatchLayout layout_;
  double beta1_ = 0.0, beta2_ = 0.0;
  std::vector<int64_t> samples_;
};

}  // namespace memwall
