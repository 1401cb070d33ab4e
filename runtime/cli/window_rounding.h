// What NCCL's allocator takes beyond an arena that is a symmetric window.
#pragma once

#include <string>

#include "runtime/config/config.h"
#include "runtime/plan/plan.h"

namespace memwall {

// The most that NCCL rounds an allocation up to on that target: 2 MiB, and up to 512 MiB where GPUs
// have multicast memory, by its version.
int64_t most_window_granularity(const std::string& target);

// Beyond the arena's own pages, at most; 0 without windows.
int64_t planned_window_rounding(const Plan& plan, const config::Config& config);

}  // namespace memwall
