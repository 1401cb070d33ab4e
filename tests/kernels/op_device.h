// Cases on a GPU: with MEMWALL_TEST_DEVICE=CUDA the kernels of the CUDA module run, on copies of
// the operands. One device serves the whole process. Where there is no GPU every test is skipped.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "runtime/kernels/kernel.h"

namespace memwall::test {

bool on_gpu();
// Of tests/imitated_gpu, where a kernel is a loop on the CPU.
bool on_imitated_gpu();

// Skips what tests the CPU alone.
#define MEMWALL_CPU_ONLY(what) \
  if (memwall::test::on_gpu()) GTEST_SKIP() << "of the CPU alone: " << (what)

// Why the GPU refuses this call by design; "" where it takes it.
std::string refusal_of(Op op, const KernelCall& call);
// What was refused, for the count that is printed at the end.
void count_refusal(const std::string& why);

// The call on the GPU. Its tensors lie in `buffers`, memory of the host, which is copied there and,
// when the kernel has run, back; a buffer begins at an address that is a multiple of 256. The
// workspace is the one that the graph's rules state for a GPU, with a guard behind it; the call's
// own is ignored.
void run_on_gpu(Op op, const KernelCall& call, std::span<const std::span<std::byte>> buffers);

}  // namespace memwall::test
