// Where a training step's time went on this rank: what a recorder noted of it, and the arithmetic
// that splits it up. All times are nanoseconds of this rank's steady clock.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/plan/plan.h"

namespace memwall {

// Whether a program's compute steps count as update: those behind the last micro-step.
bool is_update(const Program& program);

// A program of the step, in the order in which they ran.
struct ProgramSpan {
  const Program* program = nullptr;
  int64_t micro_step = 0;
  int64_t begin_ns = 0, end_ns = 0;
};

// A transfer: from when this rank started it, to when it was complete here. They complete in the
// order in which they start.
struct TransferSpan {
  int64_t start_ns = 0, completed_ns = 0;
  int32_t program = 0, step = 0;  // index into the step's programs, and of the plan step there
};

// This rank's thread, blocked by `transfer` (an index into the step's transfers).
struct WaitSpan {
  int64_t begin_ns = 0, end_ns = 0;
  int32_t transfer = 0;
  int32_t step = 0;  // the plan step that waited; at a program's end the number of its steps
};

// What the thread was at in between; kept only of a step that is traced.
enum class Work : uint8_t { kInput, kCompute, kProgress };
struct WorkSpan {
  Work work = Work::kCompute;
  int32_t program = 0, step = 0;  // as above; not of input
  int64_t begin_ns = 0, end_ns = 0;
};

// A step as a recorder leaves it. Spans of work, the starting of transfers among `progress_ns`, and
// waits do not overlap.
struct StepTimes {
  int64_t begin_ns = 0, end_ns = 0;
  int64_t input_ns = 0, compute_ns = 0, update_ns = 0, progress_ns = 0;  // sums of work
  std::vector<ProgramSpan> programs;
  std::vector<TransferSpan> transfers;
  std::vector<WaitSpan> waits;
  std::vector<WorkSpan> work;
};

// The step's time in parts. total = input + compute + progress + exposed_communication + wait +
// update + other; communication goes on beside them.
struct StepSplit {
  int64_t total_ns = 0;
  int64_t input_ns = 0;     // reading tokens
  int64_t compute_ns = 0;   // compute steps, but for those of an update program
  int64_t progress_ns = 0;  // starting transfers, and what they get done between compute steps
  // Blocked though every rank had started the transfer: what moving the data cost this rank.
  int64_t exposed_communication_ns = 0;
  // Blocked because a rank had not started the transfer yet, or had not ended the step.
  int64_t wait_ns = 0;
  int64_t update_ns = 0;         // compute steps of an update program
  int64_t other_ns = 0;          // the rest: the host's part, and the recorder's
  int64_t communication_ns = 0;  // during which at least one transfer was under way
  int64_t micro_steps_ns = 0;    // from begin to end of the programs but for an update program
};

// When the last rank had started each of the step's transfers and ended the step, by this rank's
// clock.
struct LastOfRanks {
  std::vector<int64_t> started_ns;
  int64_t ended_ns = 0;
};

// The part of a wait before `last_started_ns`; the rest is exposed. 0 where that is over before.
int64_t waited_for_ranks_ns(const WaitSpan& wait, int64_t last_started_ns);

// InternalError where `last` is of another number of transfers.
StepSplit split_step(const StepTimes& times, const LastOfRanks& last);

// The time covered by transfers that are in order of their starts.
int64_t covered_ns(std::span<const TransferSpan> transfers);

}  // namespace memwall
