// Bytes that collectives need and send, by formula: the contract between plans, which reserve and
// predict them, and communicators, which use them and are counted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "runtime/base/dtype.h"

namespace memwall {

// What carries the bytes between ranks.
enum class Transport : uint8_t {
  kMpi,           // MPI's point-to-point messages
  kSharedMemory,  // windows that the ranks of one host share
};
constexpr std::string_view name_of(Transport transport) {
  return transport == Transport::kMpi ? "MPI" : "SHARED_MEMORY";
}

// Scratch of a reduce-scatter: one slot for each other rank, together at most this, but a slot has
// at least kMinSlotElements.
constexpr int64_t kReceiveBytes = int64_t{4} << 20;
constexpr int64_t kMinSlotElements = 1024;
constexpr int64_t kSlotAlignment = 64;  // elements

// Elements of a shard that one block of a reduce-scatter covers: what fits a slot.
constexpr int64_t reduce_scatter_block_elements(int64_t ranks, int64_t shard_elements,
                                                DType dtype) {
  if (ranks < 2) return shard_elements;
  const int64_t slot = kReceiveBytes / ((ranks - 1) * size_of(dtype));
  return std::min(shard_elements,
                  std::max(kMinSlotElements, slot / kSlotAlignment * kSlotAlignment));
}

// Through windows a rank adds what the others laid there in place, and receives nothing.
constexpr int64_t reduce_scatter_receive_bytes(int64_t ranks, int64_t shard_elements, DType dtype,
                                               Transport transport = Transport::kMpi) {
  if (transport == Transport::kSharedMemory) return 0;
  return (ranks - 1) * reduce_scatter_block_elements(ranks, shard_elements, dtype) * size_of(dtype);
}

constexpr int64_t all_reduce_receive_bytes(int64_t ranks, int64_t count,
                                           Transport transport = Transport::kMpi) {
  if (transport == Transport::kSharedMemory) return 0;
  return ranks * count * size_of(DType::kF64);
}

// What each rank of a host opens to the others in shared memory, flags included; every rank maps
// the windows of all, so that `ranks` times this is resident in each.
constexpr int64_t kWindowBytes = int64_t{4} << 20;
constexpr int64_t window_bytes_per_rank(int64_t ranks,
                                        Transport transport = Transport::kSharedMemory) {
  return ranks < 2 || transport != Transport::kSharedMemory ? 0 : kWindowBytes;
}

// What one rank sends: pairwise, each other rank gets its share directly.
constexpr int64_t all_gather_wire_bytes(int64_t ranks, int64_t shard_bytes) {
  return (ranks - 1) * shard_bytes;
}
constexpr int64_t reduce_scatter_wire_bytes(int64_t ranks, int64_t shard_bytes) {
  return (ranks - 1) * shard_bytes;
}
constexpr int64_t all_reduce_wire_bytes(int64_t ranks, int64_t count) {
  return (ranks - 1) * count * size_of(DType::kF64);
}

}  // namespace memwall
