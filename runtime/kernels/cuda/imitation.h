// How a kernel runs where there is no GPU. The module of real GPUs has an empty register_kernel
// (no_imitation.cc); that of imitated ones keeps a table (tests/imitated_gpu).
#pragma once

#include <functional>

namespace memwall::imitated {

// bind(arguments, grid, block) copies a launch's arguments and gives what executes it.
void register_kernel(const void* host_function,
                     std::function<void()> (*bind)(void** arguments, unsigned grid,
                                                   unsigned block));

}  // namespace memwall::imitated
