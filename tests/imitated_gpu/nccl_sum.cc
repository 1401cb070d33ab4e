#include "tests/imitated_gpu/nccl_sum.h"

#include "tests/imitated_gpu/numbers.h"

namespace memwall::imitated {
namespace {

template <class Element, class Sum>
void sum_of(size_t count, const std::vector<const std::byte*>& contributions, void* to) {
  auto* result = static_cast<Element*>(to);
  for (size_t i = 0; i < count; ++i) {
    Sum sum{};
    for (size_t rank = 0; rank < contributions.size(); ++rank) {
      const auto value = static_cast<Sum>(reinterpret_cast<const Element*>(contributions[rank])[i]);
      sum = rank == 0 ? value : sum + value;
    }
    result[i] = static_cast<Element>(sum);
  }
}

}  // namespace

size_t nccl_element_bytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclFloat32: return 4;
    case ncclFloat64: return 8;
    default: return 0;
  }
}

void sum_in_order(ncclDataType_t type, size_t count,
                  const std::vector<const std::byte*>& contributions, void* to) {
  switch (type) {
    case ncclFloat16: return sum_of<Half, float>(count, contributions, to);
    case ncclBfloat16: return sum_of<BFloat16, float>(count, contributions, to);
    case ncclFloat32: return sum_of<float, float>(count, contributions, to);
    case ncclFloat64: return sum_of<double, double>(count, contributions, to);
    default: return sum_of<uint8_t, unsigned>(count, contributions, to);
  }
}

}  // namespace memwall::imitated
