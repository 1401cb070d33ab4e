// Whether the module's kernels run on the current GPU.
#pragma once

#include "runtime/kernels/cuda/status.h"

namespace memwall::cuda {

// False where the module was built for other GPUs.
bool has_code();

}  // namespace memwall::cuda
