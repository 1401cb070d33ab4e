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
// A ring is cut into a few chunks a part that follow each other, which changes neither term: the
// first chunk's hops are paid for by the last one's. Where a collective was measured
// (Machine::transfer_rates), b, a, B and A are its own, and the formula's seconds are multiplied by
// a correction: timed seconds over the formula's, for a topology that was timed interpolated over
// log(s) between the timed sizes (beyond them the nearest's), 1 for other topologies.
//
// Unless measured, these are the links' own time only: that a reduce-scatter adds, and that copies
// load the devices' memory, is left out.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/base/collective.h"
#include "runtime/cost/machine.h"

namespace memwall {

// What the MPI transport has under way at once (comm/mpi), of its exchanges with single ranks.
constexpr int64_t kExchangesInFlight = 8;

struct Transfer {
  Op op = Op::kAllGather;  // or kReduceScatter, kAllReduce
  Algorithm algorithm = Algorithm::kPairwise;
  Transport transport = Transport::kMpi;
  int64_t part_bytes = 0;  // s above
  int64_t rounds = 1;      // pairwise: how often each exchange is cut in two or more messages
};

struct TransferCost {
  double intra = 0.0, inter = 0.0;  // seconds for the bytes of the links that set the pace
  double latency = 0.0;             // seconds for the messages
  double seconds() const { return intra + inter + latency; }
  int64_t intra_bytes = 0, inter_bytes = 0;  // a rank's, the mean over those of a node
};
TransferCost transfer_cost(const Machine& machine, const Topology& topology,
                           const Transfer& transfer);

// A timed transfer beside how often its exchanges are cut.
struct TimedTransfer {
  TransferPoint point;
  int64_t rounds = 1;
};
// Makes `rate.corrections` from transfers that were timed; `machine` has the links that the rate
// does not.
void correct(TransferRate& rate, const Machine& machine, const std::vector<TimedTransfer>& timed);

// How often the exchange between two ranks is cut in two or more messages (comm/mpi).
int64_t exchange_rounds(Op op, Transport transport, int64_t ranks, int64_t part_bytes, DType dtype);

}  // namespace memwall
