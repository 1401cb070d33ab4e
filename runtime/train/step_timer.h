// Times training steps on all ranks, and splits them by what the ranks tell each other afterwards.
#pragma once

#include <cstdint>

#include "runtime/exec/executor.h"
#include "runtime/train/clock_offsets.h"
#include "runtime/train/step_recorder.h"
#include "runtime/train/step_times.h"

namespace memwall {

class StepTimer {
 public:
  // Collective: measures how far the ranks' clocks are apart. The executor must outlive it.
  explicit StepTimer(Executor& executor);
  ~StepTimer();
  StepTimer(const StepTimer&) = delete;
  StepTimer& operator=(const StepTimer&) = delete;

  // The next step's work is kept piece by piece, and the clocks are measured just before it.
  void trace_next();

  // Around a step, during which the timer observes the executor. Collective; every minute it
  // measures the clocks again.
  void begin();
  void input(int64_t begin_ns, int64_t end_ns) { recorder_.input(begin_ns, end_ns); }
  // Collective. The clock has stopped when the ranks exchange when each has started its transfers:
  // 8 bytes a transfer, which count as no traffic of the step.
  StepSplit end();

  // Of the last step.
  const StepTimes& times() const { return recorder_.times(); }
  const LastOfRanks& last() const { return last_; }
  const RunClock& clock() const { return clock_; }

 private:
  void exchange();

  Executor& executor_;
  StepRecorder recorder_;
  RunClock clock_;
  LastOfRanks last_;
  int64_t measured_at_ = 0;  // by rank 0's clock, and so the same on all
  bool measure_next_ = false, trace_next_ = false;
};

}  // namespace memwall
