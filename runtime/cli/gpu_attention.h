// Attention as one op (passes/fuse_attention.h), by the GPUs' library.
#pragma once

#include "runtime/cli/gpu.h"

namespace memwall {

// Settles run.fused_attention where it matters and is left open: true where every rank's library
// can be used, and else false, which who speaks says. Collective. Throws a SharedError where it is
// asked for and cannot be had.
void settle_attention(config::Config& config, Gpu& gpu, Job& job);

// Readies the plan's attention, or says that there is none though it could be. Collective. Throws a
// SharedError where the library wants more workspace than is planned.
void prepare_attention(const Gpu& gpu, const Plan& plan, const config::Config& config, Job& job);

}  // namespace memwall
