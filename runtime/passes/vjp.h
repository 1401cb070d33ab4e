// Reverse-mode differentiation of a graph, chunked bodies included.
#pragma once

#include <functional>

#include "runtime/graph/graph.h"

namespace memwall {

struct VjpHooks {
  // The whole accumulator into which contributions to the cotangent of this parameter buffer (a
  // gather's or replicate's output) are added, skipped in the first micro-step; kNoValue: none.
  std::function<ValueId(const Scope&, const Node& gather)> accumulator;
  // The cotangent of a parameter buffer is complete: scatter it, or leave it.
  std::function<void(const Scope&, const Node& gather, ValueId cotangent)> parameter;
};

// Appends the backward pass of `loss` (f64[1]) under the cotangent `seed` (f64[1]). Returns the
// value that is the loss from then on: where a chunked forward node is read by nothing but its own
// backward, the backward node's body, which recomputes the forward anyway, returns its results too
// and the forward node is dead.
ValueId vjp(Graph& graph, ValueId loss, ValueId seed, const VjpHooks& hooks);

}  // namespace memwall
