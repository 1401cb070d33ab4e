// One optimizer step: the host's side of the plan's programs.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "comm/ledger.h"
#include "runtime/base/scalars.h"
#include "runtime/data/sampler.h"
#include "runtime/exec/executor.h"
#include "runtime/train/requests.h"
#include "runtime/train/step_state.h"
#include "runtime/train/step_timer.h"
#include "runtime/train/trainer.h"

namespace memwall {

// What a step did, as its scalars and this rank's clock say.
struct StepReport {
  double loss = 0.0, grad_norm = 0.0, learning_rate = 0.0, loss_scale = 1.0;  // a rank's mean
  bool skipped = false;
  bool measured = false;  // curvature: trace and sign scale are meant
  double trace = 0.0, sign_scale = 1.0;
  StepRequests agreed;
  double seconds = 0.0;
  StepSplit split;  // of `seconds`, where a timer took them
  Ledger traffic;   // of the step's programs
};

// Which numbers of a skipped step were not finite, and so which scale is to blame. A gradient that
// is not finite takes H z along.
enum class Overflow : uint8_t { kNone, kGradient, kCurvature };
Overflow overflow_of(const StepReport& report);

// After that step: counts, and the scale whose numbers overflowed lowered.
StepState next_state(const StepState& state, const StepReport& report,
                     const LossScaleSettings& scales);

// Fills this rank's share of a micro-step: tokens and targets (micro_batch, seq_length), and the
// global numbers of its samples (micro_batch). Steps and micro-steps count from 0.
using MicroBatchFeed =
    std::function<void(int64_t step, int64_t micro_step, std::span<int32_t> tokens,
                       std::span<int32_t> targets, std::span<int64_t> samples)>;

// Samples of `training`, as `settings` say, for rank `rank` of `ranks`.
MicroBatchFeed feed_from(const TokenRange& training, const TrainSettings& settings, int ranks,
                         int rank);

class StepRunner {
 public:
  // The executor, the settings and the timer must outlive it. Without a timer a step has no split,
  // and whatever observes the executor goes on observing. Throws InternalError where the plan has
  // other sizes.
  StepRunner(Executor& executor, MicroBatchFeed feed, const TrainSettings& settings,
             StepTimer* timer = nullptr);

  // `step` counts from 0. Whether it measures curvature: after every so many applied steps.
  StepReport run(int64_t step, const StepState& state, const StepRequests& requests);
  // Where the last step's overflow began (overflow.h); `step` as given to run. Collective.
  std::string overflow_origin(int64_t step, Overflow overflow);

  double tokens() const;  // a step, over all ranks
  // What a step runs, in that order, each once.
  std::vector<std::string> programs(bool curvature) const;

 private:
  double& scalar(Scalar which);
  void write_scalars(int64_t step, const StepState& state, const StepRequests& requests);
  void prepare(int64_t step, const ProgramRun& run);
  void run_programs(int64_t step);
  void feed(int64_t step, int64_t micro_step);
  void read_scalars(StepReport& report);

  Executor& executor_;
  const TrainSettings& settings_;
  const MicroBatchFeed feed_;
  const BatchLayout layout_;
  StepTimer* const timer_;
  std::vector<int64_t> samples_;
  bool measuring_ = false;  // the last step
};

}  // namespace memwall
