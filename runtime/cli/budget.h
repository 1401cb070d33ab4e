// Refusing a plan that does not fit, and saying what would.
#pragma once

#include "runtime/config/config.h"
#include "runtime/plan/plan.h"

namespace memwall {

// BudgetError with the largest consumers, and the nearest settings whose plan fits, where `plan`,
// compiled for `ranks` ranks from `config`, exceeds its memory.budget.
void refuse_over_budget(const Plan& plan, const config::Config& config);

// BudgetError where the arenas of the ranks on this host are larger than the memory it has left, so
// that a run ends in a message and not in the kernel's killer.
void refuse_over_machine(const Plan& plan, int64_t ranks_on_host);

}  // namespace memwall
