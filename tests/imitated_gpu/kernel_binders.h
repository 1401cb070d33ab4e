// How the imitated GPU runs a kernel: whoever defines a __global__ function registers, beside it, a
// binder that does the same work on the CPU.
#pragma once

#include <functional>

namespace memwall::imitated {

// Copies the launch's arguments (arguments[i] points at argument i, as in cudaLaunchKernel) and
// returns what the launch does. That may be called several times: a captured launch is replayed.
// Dynamic shared memory is the binder's own business.
using KernelBinder = std::function<void()> (*)(void** arguments, unsigned grid, unsigned block);

// `host_function` is the address a launch names: reinterpret_cast<const void*>(&kernel<...>).
// May be called before main; the last binder of a function counts.
void register_kernel(const void* host_function, KernelBinder bind);

}  // namespace memwall::imitated
