// A rank's trace of some training steps: RUN/trace/rank-00000.json in the Chrome trace event
// format, which Perfetto reads
// (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
//
// A rank is a process of the trace. Its threads: 0 compute, 1 communication, 2 waits, 3 progress
// (the thread's own work for transfers, from a microsecond on), 4 step (programs and input).
// Transfers are shown one after the other, each from when it was started and the one before was
// complete. Times are microseconds of rank 0's clock; an arrow leads from a transfer to the step
// that waited for it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/atomic_file.h"
#include "runtime/train/step_timer.h"

namespace memwall {

// The events of one step of rank `rank` of `ranks`; `step` from 1. Those of a thread are in order.
std::vector<nlohmann::ordered_json> trace_events(int64_t step, int64_t rank, int64_t ranks,
                                                 const StepTimer& timer, const StepSplit& split);

class TraceFile {
 public:
  // Makes the folder where there is none. Throws Error where the file system refuses.
  TraceFile(const std::string& run_dir, const Executor& executor, uint64_t plan_hash);

  // The last step that `timer` timed, which had been told to trace it; `step` from 1.
  void add(int64_t step, const StepTimer& timer, const StepSplit& split);
  // The file takes its place. Without it, nothing is left.
  void commit();

  const std::string& folder() const { return folder_; }

 private:
  void add_event(const nlohmann::ordered_json& event);
  void write();

  std::string folder_;
  int64_t rank_, ranks_;
  std::optional<AtomicFile> file_;
  std::string text_;     // not written yet
  int64_t written_ = 0;  // bytes
  bool first_ = true;
};

}  // namespace memwall
