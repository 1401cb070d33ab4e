// Seconds and bytes of a collective over nodes of several ranks: links inside a node, NICs that a
// node's ranks share between nodes.
//
// N ranks, g of them a node, M = N / g nodes. Every collective here gives each rank a part of s
// bytes from each other rank: an all-gather a shard, a reduce-scatter a partial sum of a shard, an
// all-reduce of scalars the scalars. So a rank sends (N - 1) s bytes under every algorithm; what
// differs is how many of them cross to other nodes, and how many messages follow each other. With
// b and a the bandwidth and latency of a rank's link, B and A those of a node's NICs together:
//
//     pairwise   a rank sends to each other rank directly, kExchangesInFlight at a time, r times:
//                max((g - 1) s / b, g (N - g) s / B) + r ((g - 1) a + (N - g) A) / in flight
//     ring       N - 1 times s to the neighbour; the slowest edge sets the pace. One edge of a node
//                leaves it, and uses all its NICs (as many rings as NICs, each with its share):
//                (N - 1) max(a + s / b, A + s / B)
//     two-level  inside a node pairwise, M s to each other rank of it; then in g rings over the
//                nodes, each of the ranks at one place of their nodes:
//                (g - 1) (a + M s / b) + (M - 1) (A + g s / B)
//
// The links' own time only: that the copies load the devices' memory is left out.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/cost/machine.h"

namespace memwall {

enum class Algorithm : uint8_t { kPairwise, kRing, kTwoLevel };
std::string_view name_of(Algorithm algorithm);  // "pairwise", "ring", "two_level"

// What the MPI transport has under way at once (comm/mpi), of its exchanges with single ranks.
constexpr int64_t kExchangesInFlight = 8;

struct Transfer {
  int64_t part_bytes = 0;  // s above
  int64_t rounds = 1;      // pairwise: how often each exchange is cut in two or more messages
};

struct TransferCost {
  double intra = 0.0, inter = 0.0;  // seconds for the bytes of the links that set the pace
  double latency = 0.0;             // seconds for the messages
  double seconds() const { return intra + inter + latency; }
  int64_t intra_bytes = 0, inter_bytes = 0;  // a rank's, the mean over those of a node
};
TransferCost transfer_cost(const Machine& machine, const Topology& topology, Algorithm algorithm,
                           const Transfer& transfer);

}  // namespace memwall
