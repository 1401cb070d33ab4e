// Adding up a plan: traffic, FLOPs, bytes.
#pragma once

#include "runtime/graph/model.h"
#include "runtime/plan/plan.h"

namespace memwall {

// Fills plan.totals from its programs; `lower_bound`: most bytes alive at once in any of them.
void total(Plan& plan, const Model& model, int64_t lower_bound);

}  // namespace memwall
