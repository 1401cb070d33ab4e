// Refusing a plan that does not fit, and saying what would.
#pragma once

#include <string>

#include "runtime/cli/candidate.h"
#include "runtime/config/config.h"
#include "runtime/plan/plan.h"

namespace memwall {

// What to say of a plan that exceeds the memory.budget of `config`, its effective configuration: at
// most four lines with the nearest settings that fit, each with its bytes, its cost and the command
// that trains so; where none fits, the smallest plan and the smallest budget that works. "" where
// the plan fits. Compiles up to some hundred plans.
std::string what_would_fit(const Plan& plan, const config::Config& config, const SearchBase& base);

// BudgetError with the largest consumers, and with what would fit, where `plan` exceeds the
// memory.budget of its configuration.
void refuse_over_budget(const Plan& plan, const config::Config& config,
                        const std::string& what_would_fit = "");

// BudgetError where the arenas of the ranks on this host are larger than the memory it has left, so
// that a run ends in a message and not in the kernel's killer.
void refuse_over_machine(const Plan& plan, int64_t ranks_on_host);

}  // namespace memwall
