#include "runtime/cli/budget.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <vector>

#include "memory/arena.h"
#include "runtime/cli/settings.h"

namespace memwall {
namespace {

// Settings that leave the result of training as it is, the ones that change least first: a higher
// stage, then a smaller micro-step (which costs more of them), then both. The batch over all ranks
// stays.
std::vector<config::Config> candidates(const config::Config& config, int64_t ranks) {
  std::vector<config::Config> out;
  for (int64_t batch = config.data().micro_batch_size();; batch /= 2) {
    for (int64_t stage = config.parallel().zero_stage(); stage <= (ranks > 1 ? 3 : 0); ++stage) {
      config::Config& candidate = out.emplace_back(config);
      candidate.mutable_parallel()->set_zero_stage(stage);
      candidate.mutable_data()->set_micro_batch_size(batch);
    }
    if (batch % 2 != 0) return out;
  }
}

std::string remedy(const config::Config& config, int64_t ranks, int64_t budget_bytes) {
  for (const config::Config& candidate : candidates(config, ranks)) {
    const Plan plan = compile(Gpt2(gpt_spec(candidate)), compile_settings(candidate, ranks));
    if (plan.arena_bytes > budget_bytes) continue;
    std::string sets;
    if (candidate.parallel().zero_stage() != config.parallel().zero_stage()) {
      sets += fmt::format(" parallel.zero_stage={}", candidate.parallel().zero_stage());
    }
    if (candidate.data().micro_batch_size() != config.data().micro_batch_size()) {
      sets += fmt::format(" data.micro_batch_size={}", candidate.data().micro_batch_size());
    }
    return fmt::format("fits with{}: {:.1f} MiB", sets,
                       static_cast<double>(plan.arena_bytes) / (1 << 20));
  }
  return fmt::format(
      "no ZeRO stage and micro-batch fits on {} rank{}: take more ranks, a smaller "
      "model or shorter sequences",
      ranks, ranks == 1 ? "" : "s");
}

}  // namespace

void refuse_over_budget(const Plan& plan, const config::Config& config) {
  const int64_t limit = budget_bytes(config);
  try {
    check_budget(plan, limit);
  } catch (const BudgetError& error) {
    throw BudgetError(error.what(), "", remedy(config, plan.ranks, limit));
  }
}

void refuse_over_machine(const Plan& plan, int64_t ranks_on_host) {
  const int64_t needed = plan.arena_bytes * ranks_on_host, left = available_memory_bytes();
  if (needed <= left) return;
  const auto gibibytes = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
  throw BudgetError(
      fmt::format(
          "{} rank{} on this host need {:.1f} GiB for their arenas, and {:.1f} GiB are left",
          ranks_on_host, ranks_on_host == 1 ? "" : "s", gibibytes(needed), gibibytes(left)),
      "", "fewer ranks a host, a higher parallel.zero_stage, or a smaller micro-batch");
}

}  // namespace memwall
