// Where an overflow began. After a step its values are gone, so the micro-steps are run again, with
// the same data and masks, and each step of the plan is checked for numbers that are not finite.
#pragma once

#include <functional>
#include <string>

#include "runtime/exec/executor.h"

namespace memwall {

// Collective. `curvature`: of a step that measures it; `of_curvature`:
// tangents count too, else values only (a chunk's results always do); `feed` prepares the input of
// a run. Returns, on every rank the same, "NAME (rank R, micro-step A)" of the first step in the
// order of execution whose result is not finite on some rank; empty where none is. Overwrites
// gradients and the loss sum.
std::string find_overflow(Executor& executor, bool curvature, bool of_curvature,
                          const std::function<void(const ProgramRun&)>& feed);

}  // namespace memwall
