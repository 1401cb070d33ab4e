// Building a new graph from an old one.
#pragma once

#include <vector>

#include "runtime/graph/graph.h"

namespace memwall {

// Copies nodes of `from` into `to`, one at a time, keeping the map of values.
class Rewriter {
 public:
  Rewriter(const Graph& from, Graph& to);
  // The value of the new graph that stands for `old`; kNoValue stays.
  ValueId map(ValueId old) const { return old < 0 ? old : map_[static_cast<size_t>(old)]; }
  void set(ValueId old, ValueId fresh) { map_[static_cast<size_t>(old)] = fresh; }
  // Copies node `id` with mapped inputs and addends; maps its outputs.
  NodeId copy(NodeId id);
  // Maps the graph outputs. Call last.
  void finish();

 private:
  const Graph& from_;
  Graph& to_;
  std::vector<ValueId> map_;
};

// Without nodes whose results nobody reads, results of chunked nodes nobody reads, and body
// operands nobody reads.
Graph without_dead_code(const Graph& graph);

// How often each value is read by nodes (inputs and addends) or returned.
std::vector<int32_t> count_uses(const Graph& graph);

}  // namespace memwall
