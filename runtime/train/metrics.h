// One JSON line a step and rank: what was planned beside what was measured (the interface's
// `planned` and `measured` objects).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "comm/ledger.h"
#include "runtime/exec/executor.h"
#include "runtime/plan/plan.h"
#include "runtime/train/step_times.h"

namespace memwall {

// {"memory": {...}, "traffic": {...}}: `programs` are those run so far; traffic is that of a step
// that measures curvature, or of one that does not.
nlohmann::ordered_json planned_json(const Plan& plan, const std::vector<std::string>& programs,
                                    int64_t rank, bool curvature);

// Bytes of a rank's slots for z * (H z): sums, or averages of them. Part of the gradients.
int64_t hessian_bytes(const Plan& plan);

// `plan --json`: transport, parameters, ranks, zero_stage, plan_hash, memory (of all programs, on
// rank 0), traffic (of a step that measures curvature, where some do), traffic_between (of one that
// does not), hessian (bytes of sums or averages of z * (H z), part of the gradients), flops,
// dram_bytes, padding (bytes), communication_buffers (bytes by name, the blocks' as "block*").
nlohmann::ordered_json plan_json(const Plan& plan, double run_total_flops);

// Anonymous memory outside the arena by name. Names are given by time: what grew between two marks
// bears the name of the latter, so that the lines and `other`, what grew since, always add up to
// the whole. A negative line is memory given back.
struct OutsideMemory {
  int64_t baseline_bytes = 0;  // anonymous resident memory after MPI_Init
  int64_t windows_mapped = 0;  // shared resident memory that the communicator added
  std::vector<std::pair<std::string, int64_t>> growth;
  std::vector<std::pair<std::string, int64_t>> device;  // of a GPU's memory, by name

  // Pass the resident bytes of the arena, 0 before there is one.
  void mark(const std::string& line, int64_t arena_resident_bytes);
};

// {"peak": resident bytes of the arena, "rss_anon", "windows_mapped", "outside": {"baseline",
// lines..., "other"}}. Asks the kernel about every page of the arena: milliseconds a GiB.
nlohmann::ordered_json measured_memory_json(const Executor& executor, const OutsideMemory& outside);

nlohmann::ordered_json traffic_json(const Ledger& since_step_start);
// Seconds: total, its parts, and communication and micro_steps, which go on beside them.
nlohmann::ordered_json seconds_json(const StepSplit& split);
Ledger difference(const Ledger& now, const Ledger& before);

// A double that reads back exactly; a non-finite one as a string.
nlohmann::ordered_json exact(double value);

}  // namespace memwall
