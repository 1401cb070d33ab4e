#include "runtime/cost/collective_choice.h"

#include "runtime/cost/collective_cost.h"

namespace memwall {

Machine assumed_network() {
  Machine out;
  out.name = "an assumed network";
  out.link = {5e9, 2e-6};
  out.nics = 1;
  out.nic = {0.9 * 1.25e9, 30e-6};
  return out;
}

Algorithm CollectiveChoice::of(Op op, int64_t shard_elements, DType dtype) const {
  if (asked) return *asked;
  if (topology.nodes == 1) return Algorithm::kPairwise;
  const int64_t bytes = shard_elements * size_of(dtype);
  Transfer transfer{.op = op, .part_bytes = bytes};
  transfer.rounds = exchange_rounds(op, Transport::kMpi, topology.ranks, bytes, dtype);
  Algorithm best = Algorithm::kPairwise;
  double least = transfer_cost(network, topology, transfer).seconds();
  for (const Algorithm other : {Algorithm::kRing, Algorithm::kTwoLevel}) {
    if (other == Algorithm::kTwoLevel && topology.ranks_a_node == 1) continue;
    transfer.algorithm = other;
    const double seconds = transfer_cost(network, topology, transfer).seconds();
    if (seconds < least) best = other, least = seconds;
  }
  return best;
}

}  // namespace memwall
