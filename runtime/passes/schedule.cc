#include "runtime/passes/schedule.h"

#include <algorithm>
#include <map>

#include "runtime/graph/rewrite.h"

namespace memwall {

Graph schedule(const Graph& graph, int64_t prefetch_depth) {
  if (prefetch_depth == 0) return graph;
  // Where each region starts, in order of appearance.
  std::vector<NodeId> starts;
  std::vector<int32_t> region_number(graph.nodes.size());
  int32_t region = -1;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (!is_alias(node.op) && (starts.empty() || region_of(graph, node) != region)) {
      region = region_of(graph, node);
      starts.push_back(static_cast<NodeId>(i));
    }
    region_number[i] = static_cast<int32_t>(starts.size()) - 1;
  }
  std::multimap<NodeId, NodeId> moved;  // before which node: which gather
  std::vector<char> gone(graph.nodes.size(), 0);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.op != Op::kAllGather || graph.producer(node.inputs[0]).op != Op::kState) continue;
    const auto target = std::max<int64_t>(0, region_number[i] - prefetch_depth);
    moved.emplace(starts[static_cast<size_t>(target)], static_cast<NodeId>(i));
    gone[i] = 1;
  }
  Graph to;
  Rewriter rewriter(graph, to);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto [first, last] = moved.equal_range(static_cast<NodeId>(i));
    for (auto it = first; it != last; ++it) {
      const ValueId shard = graph.nodes[static_cast<size_t>(it->second)].inputs[0];
      const NodeId state = graph.values[static_cast<size_t>(shard)].node;
      if (rewriter.map(shard) == kNoValue) rewriter.copy(state);
      gone[static_cast<size_t>(state)] = 1;
      rewriter.copy(it->second);
    }
    if (!gone[i]) rewriter.copy(static_cast<NodeId>(i));
  }
  rewriter.finish();
  return to;
}

std::vector<int32_t> completion(const Graph& graph, int64_t prefetch_depth) {
  const auto end = static_cast<int32_t>(graph.nodes.size()) - 1;
  std::vector<int32_t> complete(graph.nodes.size());
  std::vector<int32_t> first_read(graph.values.size(), end);
  std::map<Op, std::vector<int32_t>> later;  // transfers of a kind, latest first
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    const auto position = static_cast<int32_t>(i);
    complete[i] = position;
    int32_t read = end;
    for (ValueId v : node.outputs) read = std::min(read, first_read[static_cast<size_t>(v)]);
    if (is_collective(node.op)) {
      auto& starts = later[node.op];
      complete[i] = read;
      if (prefetch_depth == 0) {
        complete[i] = position;
      } else if (static_cast<int64_t>(starts.size()) >= prefetch_depth) {
        const int32_t limit = starts[starts.size() - static_cast<size_t>(prefetch_depth)];
        complete[i] = std::min(complete[i], limit);
      }
      starts.push_back(position);
    }
    // An alias is read when it is read through.
    const int32_t when = is_alias(node.op) ? read : position;
    for (const auto* list : {&node.inputs, &node.addends}) {
      for (ValueId v : *list) {
        if (v >= 0)
          first_read[static_cast<size_t>(v)] = std::min(first_read[static_cast<size_t>(v)], when);
      }
    }
  }
  return complete;
}

}  // namespace memwall
