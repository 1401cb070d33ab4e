// The order of execution, and when transfers must be over.
#pragma once

#include <vector>

#include "runtime/graph/graph.h"

namespace memwall {

// The graph with its gathers of parameters moved `prefetch_depth` regions ahead of their first use.
Graph schedule(const Graph& graph, int64_t prefetch_depth);

// By node: the list position at which its effect is over. For compute its own; a transfer is over
// when something reads its result, at the latest when the prefetch_depth-th next transfer of its
// kind starts (depth 0: at once), so that only so many buffers are in flight.
std::vector<int32_t> completion(const Graph& graph, int64_t prefetch_depth);

}  // namespace memwall
