// Reverse-mode differentiation of a graph, chunked bodies included.
#pragma once

#include <functional>

#include "runtime/graph/graph.h"

namespace memwall {

struct VjpHooks {
  // The whole accumulator into which contributions to the cotangent of this parameter buffer (a
  // gather's or replicate's output) are added, skipped in the first micro-step; kNoValue: none.
  std::function<ValueId(const Scope&, const Node& gather)> accumulator;
};

// A parameter buffer (a gather's or replicate's output) and its complete cotangent.
struct ParameterGradient {
  ValueId buffer = kNoValue, cotangent = kNoValue;
  ValueId tangent = kNoValue;  // of the cotangent: H z, where the graph has tangents (dual.h)
};

struct Differentiated {
  ValueId loss = kNoValue;
  std::vector<ParameterGradient> gradients;  // in the order of backward
};

// Appends the backward pass of `loss` (f64[1]) under the cotangent `seed` (f64[1]). The loss
// returned is the value that stands for it from then on: where a chunked forward node is read by
// nothing but its own backward, the backward node's body, which recomputes the forward anyway,
// returns its results too and the forward node is dead.
Differentiated vjp(Graph& graph, ValueId loss, ValueId seed, const VjpHooks& hooks);

}  // namespace memwall
