// Products' algorithms, the same on the GPUs of all ranks.
#pragma once

#include <vector>

#include "runtime/cli/gpu.h"
#include "runtime/exec/gpu/module.h"

namespace memwall {

// Every product that some program of the plan starts.
std::vector<GemmWork> products_of(const Plan& plan);

// Rank 0 chooses for all; no rank starts another product afterwards. One rank chooses as it goes.
// Collective. Throws a SharedError where a GPU cannot take the choice.
void agree_on_products(const Gpu& gpu, const Plan& plan, Job& job);

}  // namespace memwall
