// The tokens of a micro-step, grouped by their rows of the table: of the target (cpu/, cuda/).
#pragma once

#include "runtime/kernels/embedding.h"
#include "runtime/kernels/kernel.h"

namespace memwall::launchers {

// Of the call's first input (tokens), in its workspace.
TokenGroups group_tokens(const KernelCall& call, int64_t tokens, int64_t table_rows);

}  // namespace memwall::launchers
