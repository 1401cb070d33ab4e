#include "runtime/graph/rewrite.h"

#include <map>

namespace memwall {

Rewriter::Rewriter(const Graph& from, Graph& to)
    : from_(from), to_(to), map_(from.values.size(), kNoValue) {
  to_.last_block = from.last_block;
}

NodeId Rewriter::copy(NodeId id) {
  Node node = from_.nodes[static_cast<size_t>(id)];
  const std::vector<ValueId> old_outputs = node.outputs;
  std::vector<Type> types;
  for (ValueId v : old_outputs) types.push_back(from_.type(v));
  for (ValueId& v : node.inputs) v = map(v);
  for (ValueId& v : node.addends) v = map(v);
  node.origin = id;
  const NodeId fresh = to_.add(std::move(node), types);
  for (size_t k = 0; k < old_outputs.size(); ++k) {
    set(old_outputs[k], to_.nodes[static_cast<size_t>(fresh)].outputs[k]);
  }
  return fresh;
}

void Rewriter::finish() {
  for (GraphOutput output : from_.outputs) {
    output.value = map(output.value);
    to_.outputs.push_back(output);
  }
}

std::vector<int32_t> count_uses(const Graph& graph) {
  std::vector<int32_t> uses(graph.values.size(), 0);
  for (const Node& node : graph.nodes) {
    for (ValueId v : node.inputs) ++uses[static_cast<size_t>(v)];
    for (ValueId v : node.addends) {
      if (v >= 0) ++uses[static_cast<size_t>(v)];
    }
  }
  for (const GraphOutput& output : graph.outputs) ++uses[static_cast<size_t>(output.value)];
  return uses;
}

namespace {

std::vector<char> live_nodes(const Graph& graph) {
  std::vector<char> wanted(graph.values.size(), 0), live(graph.nodes.size(), 0);
  for (const GraphOutput& output : graph.outputs) wanted[static_cast<size_t>(output.value)] = 1;
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    for (ValueId v : node.outputs) live[i] |= wanted[static_cast<size_t>(v)];
    if (!live[i]) continue;
    for (ValueId v : node.inputs) wanted[static_cast<size_t>(v)] = 1;
    for (ValueId v : node.addends) {
      if (v >= 0) wanted[static_cast<size_t>(v)] = 1;
    }
  }
  return live;
}

// A body with only the results `keep`, and the operands they need (`kept_operands`).
struct TrimmedBody {
  std::shared_ptr<const Graph> body;
  std::vector<int64_t> kept_operands;
};

TrimmedBody trim_body(const Graph& body, const std::vector<char>& keep) {
  Graph wanted = body;
  wanted.outputs.clear();
  for (size_t k = 0; k < body.outputs.size(); ++k) {
    if (keep[k]) wanted.outputs.push_back(body.outputs[k]);
  }
  Graph live = without_dead_code(wanted);
  TrimmedBody trimmed;
  for (Node& node : live.nodes) {
    if (node.op != Op::kOperand) continue;
    auto& index = std::get<StateAttributes>(node.attributes).slot;
    trimmed.kept_operands.push_back(index);
    index = static_cast<int64_t>(trimmed.kept_operands.size()) - 1;
  }
  trimmed.body = std::make_shared<const Graph>(std::move(live));
  return trimmed;
}

class DeadCode {
 public:
  explicit DeadCode(const Graph& graph) : from_(graph), live_(live_nodes(graph)) {
    wanted_.assign(graph.values.size(), 0);
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      if (!live_[i]) continue;
      for (ValueId v : graph.nodes[i].inputs) wanted_[static_cast<size_t>(v)] = 1;
      for (ValueId v : graph.nodes[i].addends) {
        if (v >= 0) wanted_[static_cast<size_t>(v)] = 1;
      }
    }
    for (const GraphOutput& output : graph.outputs) wanted_[static_cast<size_t>(output.value)] = 1;
  }

  Graph run() {
    Graph to;
    Rewriter rewriter(from_, to);
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      if (!live_[i]) continue;
      if (from_.nodes[i].op == Op::kChunked) {
        copy_chunked(static_cast<NodeId>(i), rewriter, to);
      } else {
        rewriter.copy(static_cast<NodeId>(i));
      }
    }
    rewriter.finish();
    return to;
  }

 private:
  void copy_chunked(NodeId id, Rewriter& rewriter, Graph& to) {
    const Node& old = from_.nodes[static_cast<size_t>(id)];
    std::vector<char> keep;
    for (ValueId v : old.outputs) keep.push_back(wanted_[static_cast<size_t>(v)]);
    // Bodies are shared between blocks, and stay shared.
    const auto [entry, fresh] = trimmed_.try_emplace({old.body.get(), keep});
    if (fresh) entry->second = trim_body(*old.body, keep);
    const TrimmedBody& trimmed = entry->second;

    Node node = old;
    node.origin = id;
    node.body = trimmed.body;
    node.inputs.clear();
    node.addends.clear();
    node.periods.clear();
    for (int64_t k : trimmed.kept_operands) {
      node.inputs.push_back(rewriter.map(old.inputs[static_cast<size_t>(k)]));
      node.periods.push_back(old.periods[static_cast<size_t>(k)]);
    }
    std::vector<Type> types;
    for (size_t k = 0; k < keep.size(); ++k) {
      if (!keep[k]) continue;
      types.push_back(from_.type(old.outputs[k]));
      node.periods.push_back(old.periods[old.inputs.size() + k]);
      if (!old.addends.empty()) node.addends.push_back(rewriter.map(old.addends[k]));
    }
    const NodeId added = to.add(std::move(node), types);
    size_t next = 0;
    for (size_t k = 0; k < keep.size(); ++k) {
      if (keep[k])
        rewriter.set(old.outputs[k], to.nodes[static_cast<size_t>(added)].outputs[next++]);
    }
  }

  const Graph& from_;
  std::vector<char> live_, wanted_;
  std::map<std::pair<const Graph*, std::vector<char>>, TrimmedBody> trimmed_;
};

}  // namespace

Graph without_dead_code(const Graph& graph) {
  return DeadCode(graph).run();
}

}  // namespace memwall
