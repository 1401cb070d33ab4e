#include "runtime/train/step_times.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace memwall {

bool is_update(const Program& program) {
  return program.name.starts_with("update");
}

int64_t waited_for_ranks_ns(const WaitSpan& wait, int64_t last_started_ns) {
  return std::clamp<int64_t>(last_started_ns - wait.begin_ns, 0, wait.end_ns - wait.begin_ns);
}

int64_t covered_ns(std::span<const TransferSpan> transfers) {
  int64_t covered = 0, until = INT64_MIN;
  for (const TransferSpan& t : transfers) {
    covered += std::max<int64_t>(0, t.completed_ns - std::max(t.start_ns, until));
    until = std::max(until, t.completed_ns);
  }
  return covered;
}

StepSplit split_step(const StepTimes& times, const LastOfRanks& last) {
  check(last.started_ns.size() == times.transfers.size(), "another number of transfers");
  StepSplit out;
  out.input_ns = times.input_ns;
  out.compute_ns = times.compute_ns;
  out.progress_ns = times.progress_ns;
  out.update_ns = times.update_ns;
  for (const WaitSpan& wait : times.waits) {
    const int64_t for_ranks =
        waited_for_ranks_ns(wait, last.started_ns[static_cast<size_t>(wait.transfer)]);
    out.wait_ns += for_ranks;
    out.exposed_communication_ns += wait.end_ns - wait.begin_ns - for_ranks;
  }
  const int64_t inside = out.input_ns + out.compute_ns + out.progress_ns + out.update_ns +
                         out.wait_ns + out.exposed_communication_ns;
  out.other_ns = times.end_ns - times.begin_ns - inside;
  // Ranks go on together: one that has ended is blocked until the last one has.
  const int64_t until_last = std::max<int64_t>(0, last.ended_ns - times.end_ns);
  out.wait_ns += until_last;
  out.total_ns = times.end_ns - times.begin_ns + until_last;
  for (const ProgramSpan& span : times.programs) {
    if (!is_update(*span.program)) out.micro_steps_ns += span.end_ns - span.begin_ns;
  }
  out.communication_ns = covered_ns(times.transfers);
  return out;
}

}  // namespace memwall
