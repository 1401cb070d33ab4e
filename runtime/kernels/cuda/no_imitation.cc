#include "runtime/kernels/cuda/imitation.h"

namespace memwall::imitated {

void register_kernel(const void*, std::function<void()> (*)(void**, unsigned, unsigned)) {}

}  // namespace memwall::imitated
