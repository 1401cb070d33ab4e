#include "runtime/cli/budget.h"

#include <fmt/format.h>

#include <cmath>

#include "memory/arena.h"
#include "runtime/cli/search.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/window_rounding.h"

namespace memwall {
namespace {

constexpr size_t kLines = 4;  // beside the first one: an error has at most five

// " (+33 %)", "" where it is nearly as before.
std::string changed_by(int64_t now, int64_t before) {
  if (before == 0) return "";
  const double percent = 100.0 * (static_cast<double>(now) / static_cast<double>(before) - 1.0);
  return std::abs(percent) < 0.5 ? "" : fmt::format(" ({:+.0f} %)", percent);
}

std::string line(const SearchBase& base, const Candidate& c, const Totals& before,
                 const std::string& budget) {
  const int64_t flops = before.model_flops + before.recomputed_flops + before.tangent_flops;
  const int64_t wire = before.all_gather.wire_bytes + before.reduce_scatter.wire_bytes +
                       before.all_reduce.wire_bytes;
  return fmt::format("\n  {}, {} FLOPs{}, {} sent{}{}: {}", bytes_text(c.planned_bytes),
                     amount_text(static_cast<double>(c.flops())), changed_by(c.flops(), flops),
                     bytes_text(c.wire_bytes()), changed_by(c.wire_bytes(), wire),
                     c.change.changes_results ? ", other results" : "",
                     command_line(base, c.change, budget));
}

}  // namespace

std::string what_would_fit(const Plan& plan, const config::Config& config, const SearchBase& base) {
  const int64_t limit = budget_bytes(config);
  if (limit == 0 || planned_bytes(plan) <= limit) return "";
  const SearchResult found = nearest_settings(base, limit, kLines);
  if (found.fitting.empty()) {
    const Candidate& smallest = *found.smallest;
    const std::string needed = fmt::format("{}B", smallest.planned_bytes);
    return fmt::format(
               "no ZeRO stage, checkpointing policy, micro-batch and precision fits on {} rank{}; "
               "take more ranks, a smaller model or shorter sequences, or a memory.budget of {}, "
               "the smallest that works:",
               base.ranks, base.ranks == 1 ? "" : "s", needed) +
           line(base, smallest, plan.totals, needed);
  }
  std::string text = "the nearest that fit, with a rank's FLOPs and bytes sent a step:";
  for (const Candidate& candidate : found.fitting) text += line(base, candidate, plan.totals, "");
  return text;
}

void refuse_over_budget(const Plan& plan, const config::Config& config,
                        const std::string& what_would_fit) {
  const int64_t budget = budget_bytes(config), rounding = planned_window_rounding(plan, config);
  try {
    check_budget(plan, budget);
    if (budget > 0 && planned_bytes(plan) + rounding > budget) {
      throw BudgetError(
          fmt::format("the arena and its rounding as a symmetric window need {} + {} bytes, over "
                      "memory.budget, {}",
                      planned_bytes(plan), rounding, budget),
          "", "leave communication.symmetric_windows out, or raise memory.budget");
    }
  } catch (const BudgetError& error) {
    throw BudgetError(error.what() + (what_would_fit.empty() ? "" : "; " + what_would_fit));
  }
}

void refuse_over_machine(const Plan& plan, int64_t ranks_on_host) {
  const int64_t needed = planned_bytes(plan) * ranks_on_host, left = available_memory_bytes();
  if (needed <= left) return;
  const auto gibibytes = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
  throw BudgetError(
      fmt::format(
          "{} rank{} on this host need {:.1f} GiB for their arenas, and {:.1f} GiB are left",
          ranks_on_host, ranks_on_host == 1 ? "" : "s", gibibytes(needed), gibibytes(left)),
      "", "fewer ranks a host, a higher parallel.zero_stage, or a smaller micro-batch");
}

}  // namespace memwall
