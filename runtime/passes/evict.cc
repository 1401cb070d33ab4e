#include "runtime/passes/evict.h"

#include <map>

#include "runtime/graph/rewrite.h"

namespace memwall {
namespace {

class Evictor {
 public:
  Evictor(const Graph& from, const Evicted& evicted)
      : from_(from), rewriter_(from, to_), evicted_(from.values.size(), 0) {
    for (size_t i = 0; i < from.values.size(); ++i) {
      const auto v = static_cast<ValueId>(i);
      const Node& node = from.producer(v);
      const bool alias_of_evicted = is_alias(node.op) && !node.inputs.empty() &&
                                    evicted_[static_cast<size_t>(node.inputs[0])];
      evicted_[i] = alias_of_evicted || evicted(from, v);
    }
  }

  Graph run() {
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      const Node& node = from_.nodes[i];
      const int32_t region = region_of(from_, node);
      // Aliases move with their readers, which clone them.
      std::vector<std::pair<ValueId, ValueId>> changed;
      for (ValueId v : node.inputs) {
        const ValueId now = in_region(v, region, node);
        if (now != rewriter_.map(v)) changed.push_back({v, rewriter_.map(v)});
        rewriter_.set(v, now);
      }
      rewriter_.copy(static_cast<NodeId>(i));
      for (size_t k = changed.size(); k-- > 0;) rewriter_.set(changed[k].first, changed[k].second);
    }
    rewriter_.finish();
    return std::move(to_);
  }

 private:
  ValueId in_region(ValueId v, int32_t region, const Node& reader) {
    const Node& node = from_.producer(v);
    if (!evicted_[static_cast<size_t>(v)] || region_of(from_, node) == region) {
      return rewriter_.map(v);
    }
    const auto [entry, fresh] = clones_.try_emplace({v, region}, kNoValue);
    if (!fresh) return entry->second;
    Node clone = node;
    clone.phase = reader.phase;
    clone.block = reader.block;
    clone.origin = from_.values[static_cast<size_t>(v)].node;
    clone.recomputed = !is_alias(node.op) && node.op != Op::kAllGather;
    if (!is_alias(node.op)) clone.name += "/again";
    for (ValueId& input : clone.inputs) input = in_region(input, region, reader);
    std::vector<Type> types;
    for (ValueId output : node.outputs) types.push_back(from_.type(output));
    const NodeId id = to_.add(std::move(clone), types);
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      clones_[{node.outputs[k], region}] = to_.nodes[static_cast<size_t>(id)].outputs[k];
    }
    return clones_[{v, region}];
  }

  const Graph& from_;
  Graph to_;
  Rewriter rewriter_;
  std::vector<char> evicted_;
  std::map<std::pair<ValueId, int32_t>, ValueId> clones_;
};

}  // namespace

Graph evict(const Graph& graph, const Evicted& evicted) { return Evictor(graph, evicted).run(); }

bool is_gathered_parameter(const Graph& graph, ValueId v) {
  const Node& node = graph.producer(v);
  return node.op == Op::kAllGather && node.phase == Phase::kForward;
}

}  // namespace memwall
