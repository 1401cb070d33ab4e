// Choosing a target's kernels: rewrites patterns of nodes into the fused ops that the target has,
// in forward and backward together, the same under all stages and policies.
#pragma once

#include <string>

#include "runtime/graph/graph.h"

namespace memwall {

// Throws InputError for an unknown target. The CPU target has one kernel an op and fuses nothing.
Graph select(const Graph& graph, const std::string& target);

}  // namespace memwall
