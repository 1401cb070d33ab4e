// Bytes that collectives need and send, by formula: the contract between plans, which reserve and
// predict them, and communicators, which use them and are counted.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "runtime/base/dtype.h"

namespace memwall {

// What carries the bytes between ranks.
enum class Transport : uint8_t {
  kMpi,           // MPI's point-to-point messages
  kSharedMemory,  // windows that the ranks of one host share
  kNccl,          // between GPUs
  kStaged,        // between GPUs by way of their hosts
};
inline constexpr std::array kTransports = {Transport::kMpi, Transport::kSharedMemory,
                                           Transport::kNccl, Transport::kStaged};
constexpr std::string_view name_of(Transport transport) {
  switch (transport) {
    case Transport::kMpi: return "MPI";
    case Transport::kSharedMemory: return "SHARED_MEMORY";
    case Transport::kNccl: return "NCCL";
    case Transport::kStaged: return "STAGED";
  }
  return "?";
}

// How a job's ranks are connected, as far as a plan must know it.
struct Fabric {
  Transport transport = Transport::kMpi;
  int64_t window_ranks = 1;  // that share windows: a host's, or 1 where there are none
  bool operator==(const Fabric&) const = default;
};

// Who sends what to whom in an all-gather or a reduce-scatter, and in which order a sum is made.
// N ranks, rank r; with g ranks a node, node n = r / g of M.
enum class Algorithm : uint8_t {
  kPairwise,  // each rank to each other one directly; sums in rank order 0 ... N-1
  kRing,      // to the next rank only: rank r's sum runs over r+1, r+2, ..., N-1, 0, ..., r
  kTwoLevel,  // inside each node in rank order, then node n's over n+1, ..., M-1, 0, ..., n
};
constexpr int64_t kAlgorithms = 3;
constexpr std::string_view name_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kPairwise: return "pairwise";
    case Algorithm::kRing: return "ring";
    case Algorithm::kTwoLevel: return "two_level";
  }
  return "?";
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

// Along a ring a shard travels in chunks, kRingChunks of them one behind the other, so that a rank
// sends one while it adds another: `units` of `unit_bytes` a chunk. Latency, not bandwidth, is what
// chunks below the smallest would pay for.
constexpr int64_t kRingChunks = 4;
constexpr int64_t kLeastChunkBytes = int64_t{16} << 10, kMostChunkBytes = int64_t{512} << 10;
constexpr int64_t ring_chunk(int64_t units, int64_t unit_bytes) {
  const int64_t bytes =
      std::clamp(units * unit_bytes / kRingChunks, kLeastChunkBytes, kMostChunkBytes);
  const int64_t whole_lines = bytes / unit_bytes / kSlotAlignment * kSlotAlignment;
  return std::max(int64_t{1}, std::min(units, whole_lines));
}
// Chunks that a ring's reduce-scatter has room for: partial sums received and not yet sent on, and,
// between nodes, sums of the own node's contributions.
constexpr int64_t kRingReceives = 6, kRingContributions = 2;

// Through windows a rank adds what the others laid there in place, and receives nothing; NCCL's
// buffers, and the host's, are not the arena's.
constexpr int64_t reduce_scatter_receive_bytes(int64_t ranks, int64_t shard_elements, DType dtype,
                                               Transport transport = Transport::kMpi,
                                               Algorithm algorithm = Algorithm::kPairwise) {
  if (transport != Transport::kMpi || ranks < 2) return 0;
  if (algorithm != Algorithm::kPairwise) {
    const int64_t chunks =
        kRingReceives + (algorithm == Algorithm::kTwoLevel ? kRingContributions : 0);
    return chunks * ring_chunk(shard_elements, size_of(dtype)) * size_of(dtype);
  }
  return (ranks - 1) * reduce_scatter_block_elements(ranks, shard_elements, dtype) * size_of(dtype);
}

constexpr int64_t all_reduce_receive_bytes(int64_t ranks, int64_t count,
                                           Transport transport = Transport::kMpi) {
  if (transport != Transport::kMpi) return 0;
  return ranks * count * size_of(DType::kF64);
}

// What each rank of a host opens to the others in shared memory, flags included; every rank maps
// the windows of all, so that `ranks` times this is resident in each.
constexpr int64_t kWindowBytes = int64_t{4} << 20;
constexpr int64_t window_bytes_per_rank(int64_t window_ranks) {
  return window_ranks < 2 ? 0 : kWindowBytes;
}

// What one rank sends, under every algorithm: what it does not send to each other rank directly it
// sends on for others.
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
