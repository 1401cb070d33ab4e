#include <string>

#include "runtime/graph/graph.h"
#include "runtime/graph/ops/op_rules.h"

namespace memwall {
namespace {

void require(bool condition, const Node& node, const std::string& what) {
  if (!condition) throw InternalError(std::string(op_name(node.op)) + ": " + what, node.name);
}

// Inputs exist before the node, outputs point back to it.
void verify_order(const Graph& graph, NodeId id) {
  const Node& node = graph.nodes[static_cast<size_t>(id)];
  for (const auto* list : {&node.inputs, &node.addends}) {
    for (ValueId v : *list) {
      if (v == kNoValue && list == &node.addends) continue;
      require(v >= 0 && v < static_cast<ValueId>(graph.values.size()), node, "no such input");
      require(graph.values[static_cast<size_t>(v)].node < id, node, "input defined later");
    }
  }
  for (size_t k = 0; k < node.outputs.size(); ++k) {
    const Value& value = graph.values[static_cast<size_t>(node.outputs[k])];
    require(value.node == id && value.result == static_cast<int32_t>(k), node,
            "an output is defined twice");
  }
}

// A dual node's tangents are like its values.
void verify_tangents(const Graph& graph, const Node& node) {
  require(rules_of(node.op).tangent == TangentRule::kDual, node, "does not run on dual numbers");
  const Node plain = without_tangents(graph, node);
  size_t next = plain.inputs.size();
  const auto alike = [&](ValueId a, ValueId b) {
    return graph.type(a).dtype == graph.type(b).dtype && graph.type(a).shape == graph.type(b).shape;
  };
  for (ValueId v : plain.inputs) {
    if (!is_floating(graph.type(v).dtype)) continue;
    require(next < node.inputs.size() && alike(v, node.inputs[next]), node,
            "a tangent differs from its operand");
    ++next;
  }
  require(next == node.inputs.size() && 2 * plain.outputs.size() == node.outputs.size(), node,
          "a tangent for each operand and result");
  for (size_t k = 0; k < plain.outputs.size(); ++k) {
    require(alike(node.outputs[k], node.outputs[k + plain.outputs.size()]), node,
            "a tangent differs from its result");
  }
}

void verify_types(const Graph& graph, const Node& node) {
  const OpRules& rules = rules_of(node.op);
  if (rules.infer != nullptr) {
    std::vector<Type> inferred = (*rules.infer)(graph, without_tangents(graph, node));
    if (node.dual) inferred.insert(inferred.end(), inferred.begin(), inferred.end());
    require(inferred.size() == node.outputs.size(), node, "wrong number of outputs");
    for (size_t k = 0; k < inferred.size(); ++k) {
      const Type& type = graph.type(node.outputs[k]);
      require(node.op == Op::kCopy || type.dtype == inferred[k].dtype ||
                  type.dtype == accumulator_of(inferred[k].dtype),
              node, "wrong dtype");
      require(type.shape.elements() == inferred[k].shape.elements(), node, "wrong shape");
    }
  }
  const size_t tangent = node.dual ? node.outputs.size() / 2 : 0;
  require(node.addends.empty() || !node.dual ||
              (node.addends[0] == kNoValue) == (node.addends[tangent] == kNoValue),
          node, "adds to a value or to its tangent, not to both");
  for (size_t k = 0; k < node.addends.size(); ++k) {
    if (node.addends[k] == kNoValue) continue;
    require(node.op == Op::kChunked || (rules.accumulates && (k == 0 || k == tangent)), node,
            "cannot accumulate");
    const Type& addend = graph.type(node.addends[k]);
    const Type& output = graph.type(node.outputs[k]);
    require(addend.dtype == output.dtype && addend.shape.elements() == output.shape.elements(),
            node, "the addend differs from the result");
  }
}

// What a product reads and writes besides its matrices: whole rows, all of one type.
void verify_epilogue(const Graph& graph, const Node& node, const GemmAttributes& g) {
  const Epilogue epilogue = epilogue_of(node.op);
  if (epilogue == Epilogue::kNone) return;
  const Type &extra = graph.type(node.inputs[2]), &result = graph.type(node.outputs[0]);
  require(g.limit == GemmLimit::kNone && g.c.row == g.n && g.c.column == 1 &&
              (g.batch == 1 || g.c.batch == g.m * g.n),
          node, "has an epilogue and a result that is not whole rows");
  require(result.shape.elements() == g.batch * g.m * g.n, node, "has other rows than its result");
  const bool is_bias = epilogue != Epilogue::kGeluGrad;
  require(extra.dtype == result.dtype &&
              extra.shape.elements() == (is_bias ? g.batch * g.n : result.shape.elements()),
          node, is_bias ? "has a bias that does not fit" : "has an h that does not fit");
  for (ValueId v : node.outputs) {
    require(graph.type(v).dtype == result.dtype &&
                graph.type(v).shape.elements() == result.shape.elements(),
            node, "has results of two shapes");
  }
}

// What the attributes let a kernel touch lies inside its operands.
void verify_extents(const Graph& graph, const Node& node) {
  const auto elements = [&](ValueId v) { return graph.type(v).shape.elements(); };
  if (const auto* g = std::get_if<GemmAttributes>(&node.attributes)) {
    const auto inside = [&](ValueId v, const Strides& s, int64_t rows, int64_t columns) {
      const int64_t last = (g->batch - 1) * s.batch + (rows - 1) * s.row + (columns - 1) * s.column;
      require(last < elements(v), node, "an operand is smaller than its strides say");
    };
    require(g->batch > 0 && g->m > 0 && g->n > 0 && g->k > 0, node, "is empty");
    inside(node.inputs[0], g->a, g->m, g->k);
    inside(node.inputs[1], g->b, g->k, g->n);
    inside(node.outputs[0], g->c, g->m, g->n);
    verify_epilogue(graph, node, *g);
  }
  if (const auto* r = std::get_if<RowsAttributes>(&node.attributes)) {
    const bool second = node.op == Op::kEmbeddingGrad || node.op == Op::kCrossEntropyGrad;
    const ValueId rows = node.op == Op::kEmbedding ? node.outputs[0] : node.inputs[second ? 1 : 0];
    require(r->width <= r->stride && r->batch * r->rows * r->stride == elements(rows), node,
            "has other rows than its tensor");
  }
  if (node.op == Op::kAdd) {  // its kernel reads both as what it writes
    const DType dtype = graph.type(node.outputs[0]).dtype;
    require(graph.type(node.inputs[0]).dtype == dtype && graph.type(node.inputs[1]).dtype == dtype,
            node, "adds values of two dtypes");
  }
}

void verify_views(const Graph& graph, const Node& node) {
  if (node.op == Op::kView) {
    const int64_t offset = std::get<ViewAttributes>(node.attributes).offset;
    require(offset >= 0 && offset + graph.type(node.outputs[0]).shape.elements() <=
                               graph.type(node.inputs[0]).shape.elements(),
            node, "the view leaves its buffer");
  }
  if (node.op == Op::kConcat) {
    int64_t elements = 0;
    for (ValueId v : node.inputs) elements += graph.type(v).shape.elements();
    require(elements == graph.type(node.outputs[0]).shape.elements(), node,
            "the parts do not cover the buffer");
  }
}

// Only collectives may turn a value that is due a sum, or a shard, into a whole one.
void verify_placements(const Graph& graph, const Node& node) {
  const auto placement = [&](ValueId v) { return graph.type(v).placement; };
  switch (node.op) {
    case Op::kAllGather:
      require(placement(node.inputs[0]) == Placement::kShard, node, "gathers shards only");
      require(placement(node.outputs[0]) != Placement::kShard, node, "yields a whole buffer");
      return;
    case Op::kReduceScatter:
      require(placement(node.inputs[0]) == Placement::kPartial, node, "sums partial values only");
      require(placement(node.outputs[0]) == Placement::kShard, node, "yields a shard");
      return;
    case Op::kAllReduce:
      require(placement(node.inputs[0]) == Placement::kPartial, node, "sums partial values only");
      return;
    default: break;
  }
  for (ValueId v : node.inputs) {
    if (placement(v) != Placement::kPartial || is_alias(node.op)) continue;
    const bool linear = node.op == Op::kCopy || node.op == Op::kAdd || node.op == Op::kSum ||
                        node.op == Op::kFill || node.op == Op::kSumSquares ||
                        node.op == Op::kSignProduct || node.op == Op::kStepControl ||
                        is_update(node.op);
    require(linear || node.op == Op::kChunked, node, "reads a value before its sum over ranks");
  }
}

void verify_chunked(const Graph& graph, const Node& node) {
  const int64_t count = std::get<ChunkedAttributes>(node.attributes).count;
  require(node.body != nullptr && count > 0, node, "has no body");
  require(node.periods.size() == node.inputs.size() + node.outputs.size(), node,
          "a period for each operand and result");
  require(node.body->outputs.size() == node.outputs.size(), node, "the body's results differ");
  const auto slice = [&](ValueId v, size_t k) {
    const int64_t period = node.periods[k], elements = graph.type(v).shape.elements();
    require(period > 0 && count % period == 0 && elements % (count / period) == 0, node,
            "a period does not divide");
    return elements / (count / period);
  };
  size_t operands = 0;
  for (const Node& inner : node.body->nodes) {
    if (inner.op != Op::kOperand) continue;
    ++operands;
    const auto k = static_cast<size_t>(std::get<StateAttributes>(inner.attributes).slot);
    require(k < node.inputs.size(), node, "the body reads an operand that is not there");
    const Type& type = node.body->type(inner.outputs[0]);
    require(type.shape.elements() == slice(node.inputs[k], k) &&
                type.dtype == graph.type(node.inputs[k]).dtype,
            node, "an operand's slice differs from the body's");
  }
  require(operands == node.inputs.size(), node, "an operand is not used");
  for (size_t k = 0; k < node.outputs.size(); ++k) {
    const Type& type = node.body->type(node.body->outputs[k].value);
    require(type.shape.elements() == slice(node.outputs[k], node.inputs.size() + k) &&
                type.dtype == graph.type(node.outputs[k]).dtype,
            node, "a result's slice differs from the body's");
  }
  verify_graph(*node.body);
}

}  // namespace

void verify_graph(const Graph& graph) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    verify_order(graph, static_cast<NodeId>(i));
    verify_views(graph, node);
    if (node.op == Op::kChunked) verify_chunked(graph, node);
    if (node.dual) verify_tangents(graph, node);
    verify_types(graph, node);
    verify_extents(graph, node);
    verify_placements(graph, node);
  }
  for (const GraphOutput& output : graph.outputs) {
    check(output.value >= 0 && output.value < static_cast<ValueId>(graph.values.size()),
          "a graph output does not exist");
  }
}

}  // namespace memwall
