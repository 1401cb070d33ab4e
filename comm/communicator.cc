#include "comm/communicator.h"

#include "comm/exchange.h"

namespace memwall {

int64_t reduce_scatter_receive_bytes(int64_t ranks, int64_t shard_elements, DType dtype) {
  return (ranks - 1) * reduce_scatter_block_elements(ranks, shard_elements, dtype) * size_of(dtype);
}

int64_t all_reduce_receive_bytes(int64_t ranks, int64_t count) {
  return ranks * count * size_of(DType::kF64);
}

// Pairwise: a rank sends each other rank that rank's share, directly.
int64_t all_gather_wire_bytes(int64_t ranks, int64_t shard_bytes) {
  return (ranks - 1) * shard_bytes;
}

int64_t reduce_scatter_wire_bytes(int64_t ranks, int64_t shard_bytes) {
  return (ranks - 1) * shard_bytes;
}

int64_t all_reduce_wire_bytes(int64_t ranks, int64_t count) {
  return (ranks - 1) * count * size_of(DType::kF64);
}

}  // namespace memwall
