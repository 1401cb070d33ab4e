// The plan's verifier. It trusts nothing that placement computed: it runs the arena abstractly,
// from steps, offsets and waits alone.
#pragma once

#include "runtime/plan/plan.h"

namespace memwall {

// Throws InputError naming the program, the step and the operand at fault. Checks, for ranks 0, 1
// and N-1: a read finds its value, at the right displacement; conflicting accesses of two streams
// are ordered by waits; overlaps of a step's own operands are exact and designated; everything
// lies inside the arena; slots end as promised; bodies, entered with their first, second and last
// iterations, the same.
void verify_plan(const Plan& plan);

}  // namespace memwall
