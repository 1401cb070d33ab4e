// Eviction: a value is dropped after the region that made it and restored before its next use, by
// running its node again. Re-gathering parameters (ZeRO stage 3) and recomputing activations are
// the same pass with different values.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/graph/graph.h"

namespace memwall {

using Evicted = std::function<bool(const Graph&, ValueId)>;

// In each later region (region_of) that reads an evicted value, the reads go to one clone, made
// just before the first of them; evicted inputs of a clone are cloned too.
Graph evict(const Graph& graph, const Evicted& evicted);

// Gathered parameters, which stage 3 does not keep, and the signs that are their tangents.
bool is_gathered_parameter(const Graph& graph, ValueId v);

// Activations of Transformer blocks that a checkpointing policy does not keep.
enum class Checkpointing : uint8_t {
  kNone,       // keep all
  kBlock,      // keep each block's input (Chen et al. 2016, "Training deep nets with sublinear
               // memory cost")
  kSelective,  // keep each block's input and what the patterns name
};
struct CheckpointPolicy {
  Checkpointing kind = Checkpointing::kNone;
  std::vector<std::string> keep;  // node names, "*" stands for any characters
};
// What a named preset keeps; throws InputError for an unknown name. "attention_and_residual": each
// block's attention output and middle residual (QKV and FC1 are recomputed).
std::vector<std::string> checkpoint_preset(const std::string& name);
// Throws InputError where a pattern names no forward node of the blocks that computes something.
Evicted evicted_by(const CheckpointPolicy& policy, const Graph& graph);

}  // namespace memwall
