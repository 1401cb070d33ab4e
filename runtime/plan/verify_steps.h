// What can be said of a plan's steps without running them.
#pragma once

#include "runtime/plan/plan.h"

namespace memwall {

// Throws InputError naming the program, the step and the operand at fault. Checks sizes and dtypes
// of operands, streams, what collectives need, when a step adds instead of overwriting, and that
// the operands of a body walk through those of its chunked step.
void verify_steps(const Plan& plan);

}  // namespace memwall
