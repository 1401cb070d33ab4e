// Refusing a plan that does not fit, and saying what would.
#pragma once

#include "runtime/config/config.h"
#include "runtime/plan/plan.h"

namespace memwall {

// BudgetError with the largest consumers, and the nearest settings whose plan fits, where `plan`,
// compiled for `ranks` ranks from `config`, exceeds its memory.budget.
void refuse_over_budget(const Plan& plan, const config::Config& config);

}  // namespace memwall
