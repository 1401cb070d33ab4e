// Sums of the imitated NCCL.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <vector>

namespace memwall::imitated {

size_t nccl_element_bytes(ncclDataType_t type);  // 0: not imitated

// `to` becomes the sum of the contributions, in their order: of FP16, BF16 and FP32 in FP32, of
// FP64 in FP64, rounded once; of integers modulo 256.
void sum_in_order(ncclDataType_t type, size_t count,
                  const std::vector<const std::byte*>& contributions, void* to);

}  // namespace memwall::imitated
