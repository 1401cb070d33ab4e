// Scratch that kernels need, in bytes. Partial sums and positions lie there.
#pragma once

#include <cstdint>

namespace memwall {

int64_t embedding_grad_workspace_bytes(int64_t table_rows, int64_t tokens);

// kSum (parts = 1) and kSumSquares. Without a workspace they run on one thread, to the same bits.
int64_t sum_workspace_bytes(int64_t elements, int64_t parts);

}  // namespace memwall
