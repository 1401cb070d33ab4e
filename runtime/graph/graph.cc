#include "runtime/graph/graph.h"

#include "runtime/graph/ops/op_rules.h"

namespace memwall {

NodeId Graph::add(Node node, const std::vector<Type>& types) {
  const auto id = static_cast<NodeId>(nodes.size());
  for (const auto* list : {&node.inputs, &node.addends}) {
    for (ValueId v : *list) {
      check(v < static_cast<ValueId>(values.size()) && (v >= 0 || list == &node.addends),
            "an input does not exist yet", node.name);
    }
  }
  check(node.addends.empty() || node.addends.size() == types.size(), "one addend an output",
        node.name);
  node.outputs.clear();
  for (size_t k = 0; k < types.size(); ++k) {
    node.outputs.push_back(static_cast<ValueId>(values.size()));
    values.push_back(Value{types[k], id, static_cast<int32_t>(k)});
  }
  nodes.push_back(std::move(node));
  return id;
}

NodeId Scope::emit_all(const std::string& name, Op op, Attributes attributes,
                       std::vector<ValueId> inputs, const std::vector<Type>& types) const {
  Node node;
  node.op = op;
  node.attributes = std::move(attributes);
  node.name = path(name);
  node.phase = phase;
  node.block = block;
  node.inputs = std::move(inputs);
  if (!types.empty()) return graph.add(std::move(node), types);
  const auto infer = rules_of(op).infer;
  check(infer != nullptr, "this op's result type must be stated", node.name);
  const std::vector<Type> inferred = (*infer)(graph, node);
  return graph.add(std::move(node), inferred);
}

ValueId Scope::emit(const std::string& name, Op op, Attributes attributes,
                    std::vector<ValueId> inputs) const {
  const NodeId id = emit_all(name, op, std::move(attributes), std::move(inputs), {});
  return graph.nodes[static_cast<size_t>(id)].outputs[0];
}

ValueId Scope::emit(const std::string& name, Op op, Attributes attributes,
                    std::vector<ValueId> inputs, const Type& type) const {
  const NodeId id = emit_all(name, op, std::move(attributes), std::move(inputs), {type});
  return graph.nodes[static_cast<size_t>(id)].outputs[0];
}

int32_t region_of(const Graph& graph, const Node& node) {
  return node.phase == Phase::kForward ? node.block : 2 * graph.last_block - node.block;
}

bool is_alias(Op op) {
  return op == Op::kState || op == Op::kOperand || op == Op::kView || op == Op::kShardView ||
         op == Op::kConcat || op == Op::kReplicate;
}

}  // namespace memwall
