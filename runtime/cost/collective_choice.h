// Which algorithm a collective goes by: as asked, or the fastest by the cost model. One choice for
// all ranks and ZeRO stages, as it depends on the shard's size and the topology alone.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/base/collective.h"
#include "runtime/base/dtype.h"
#include "runtime/base/op.h"
#include "runtime/cost/machine.h"

namespace memwall {

// What is known of a network that nobody described: one 10 Gb/s NIC a node, 90 % of it reached, 30
// us a message; inside a node 5 GB/s and 2 us. Assumptions: between NICs of 1 and 100 Gb/s the
// choice is nearly the same, for what decides is how often a byte crosses.
Machine assumed_network();

struct CollectiveChoice {
  std::optional<Algorithm> asked;
  Topology topology;  // of the job
  Machine network = assumed_network();

  // For an all-gather or a reduce-scatter of such shards over messages. On one node pairwise,
  // unless asked; kTwoLevel only where nodes have several ranks.
  Algorithm of(Op op, int64_t shard_elements, DType dtype) const;
};

}  // namespace memwall
