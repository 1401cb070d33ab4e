// One JSON line a step and rank: what was planned beside what was measured (the interface's
// `planned` and `measured` objects).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "comm/ledger.h"
#include "runtime/exec/executor.h"
#include "runtime/plan/plan.h"

namespace memwall {

// {"memory": {...}, "traffic": {...}}: `programs` are those run so far.
nlohmann::ordered_json planned_json(const Plan& plan, const std::vector<std::string>& programs,
                                    int64_t rank);
// `plan --json`: parameters, ranks, zero_stage, plan_hash, memory, traffic, flops, dram_bytes,
// padding, named lines.
nlohmann::ordered_json plan_json(const Plan& plan, double run_total_flops);

// Bytes outside the arena by name: what the process held before the arena existed, and since.
struct OutsideMemory {
  int64_t baseline_bytes = 0;   // anonymous resident memory after MPI_Init
};
nlohmann::ordered_json measured_memory_json(const Executor& executor, const OutsideMemory& outside);
nlohmann::ordered_json traffic_json(const Ledger& since_step_start);

// A double that reads back exactly; a non-finite one as a string.
nlohmann::ordered_json exact(double value);

}  // namespace memwall
