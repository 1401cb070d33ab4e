#include "runtime/passes/evict.h"

#include <map>

#include "runtime/graph/rewrite.h"
#include "runtime/passes/dual.h"

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
      for (const auto* list : {&node.inputs, &node.addends}) {
        for (ValueId v : *list) {
          if (v == kNoValue) continue;
          const ValueId now = in_region(v, region, node);
          if (now != rewriter_.map(v)) changed.push_back({v, rewriter_.map(v)});
          rewriter_.set(v, now);
        }
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
    clone.recomputed = !is_alias(node.op) && node.op != Op::kAllGather && node.op != Op::kSign;
    if (!is_alias(node.op)) clone.name += "/again";
    for (auto* list : {&clone.inputs, &clone.addends}) {
      for (ValueId& read : *list) {
        if (read != kNoValue) read = in_region(read, region, reader);
      }
    }
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

Graph evict(const Graph& graph, const Evicted& evicted) {
  return Evictor(graph, evicted).run();
}

namespace {

bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern.front() == '*') {
    for (size_t skip = 0; skip <= name.size(); ++skip) {
      if (matches(pattern.substr(1), name.substr(skip))) return true;
    }
    return false;
  }
  return !name.empty() && name.front() == pattern.front() &&
         matches(pattern.substr(1), name.substr(1));
}

// Forward values of blocks that no later block reads.
std::vector<char> inside_blocks(const Graph& graph) {
  std::vector<char> inside(graph.values.size(), 0);
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const Node& node = graph.nodes[static_cast<size_t>(graph.values[i].node)];
    inside[i] = node.phase == Phase::kForward && node.block > 0 && node.block < graph.last_block &&
                !is_alias(node.op);
  }
  for (const Node& node : graph.nodes) {
    for (ValueId v : node.inputs) {
      const bool crosses = node.phase == Phase::kForward && node.block != graph.producer(v).block;
      if (crosses) inside[static_cast<size_t>(v)] = 0;
    }
  }
  return inside;
}

}  // namespace

std::vector<std::string> checkpoint_preset(const std::string& name) {
  if (name == "attention_and_residual") return {"*/attn/attention", "*/attn/residual"};
  throw InputError("unknown preset \"" + name + "\"", "activation_checkpointing.preset",
                   "allowed: attention_and_residual");
}

Evicted evicted_by(const CheckpointPolicy& policy, const Graph& graph) {
  if (policy.kind == Checkpointing::kNone) return is_gathered_parameter;
  std::vector<char> dropped = inside_blocks(graph);
  if (policy.kind == Checkpointing::kSelective) {
    for (const std::string& pattern : policy.keep) {
      bool found = false;
      for (size_t i = 0; i < dropped.size(); ++i) {
        const Node& node = graph.nodes[static_cast<size_t>(graph.values[i].node)];
        const bool kept_by_name = node.phase == Phase::kForward && node.block > 0 &&
                                  node.block < graph.last_block && !is_alias(node.op) &&
                                  node.op != Op::kAllGather && node.op != Op::kSign;
        if (!kept_by_name || !matches(pattern, primal_name(node))) continue;
        found = true;
        dropped[i] = 0;
      }
      if (!found) throw InputError("no node is named " + pattern, "activation_checkpointing.keep");
    }
  }
  return [dropped = std::move(dropped)](const Graph& g, ValueId v) {
    return dropped[static_cast<size_t>(v)] != 0 || is_gathered_parameter(g, v);
  };
}

bool is_gathered_parameter(const Graph& graph, ValueId v) {
  const Node& node = graph.producer(v);
  return (node.op == Op::kAllGather || node.op == Op::kSign) && node.phase == Phase::kForward;
}

}  // namespace memwall
