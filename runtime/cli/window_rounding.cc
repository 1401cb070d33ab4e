#include "runtime/cli/window_rounding.h"

#include "runtime/base/math.h"

namespace memwall {

int64_t most_window_granularity(const std::string& target) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  return target == "sm_80" ? 2 * kMiB : 512 * kMiB;
}

int64_t planned_window_rounding(const Plan& plan, const config::Config& config) {
  if (!config.communication().symmetric_windows() || plan.fabric.transport != Transport::kNccl) {
    return 0;
  }
  const int64_t arena = round_up(plan.arena_bytes, plan.page_bytes);
  return round_up(arena, most_window_granularity(plan.target)) - arena;
}

}  // namespace memwall
