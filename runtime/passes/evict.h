// Eviction: a value is dropped after the region that made it and restored before its next use, by
// running its node again. Re-gathering parameters (ZeRO stage 3) and recomputing activations are
// the same pass with different values.
#pragma once

#include <functional>

#include "runtime/graph/graph.h"

namespace memwall {

using Evicted = std::function<bool(const Graph&, ValueId)>;

// In each later region (region_of) that reads an evicted value, the reads go to one clone, made
// just before the first of them; evicted inputs of a clone are cloned too.
Graph evict(const Graph& graph, const Evicted& evicted);

// Gathered parameters: what stage 3 does not keep.
bool is_gathered_parameter(const Graph& graph, ValueId v);

}  // namespace memwall
