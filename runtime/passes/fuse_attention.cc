#include "runtime/passes/fuse_attention.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "runtime/base/workspace.h"
#include "runtime/graph/ops/gemm.h"
#include "runtime/graph/rewrite.h"

namespace memwall {
namespace {

const Node& producer(const Graph& graph, ValueId v) {
  return graph.nodes[static_cast<size_t>(graph.values[static_cast<size_t>(v)].node)];
}

// The nodes of a body that compute.
std::vector<const Node*> computing(const Graph& body) {
  std::vector<const Node*> nodes;
  for (const Node& node : body.nodes) {
    if (node.op != Op::kOperand) nodes.push_back(&node);
  }
  return nodes;
}

// The body's products and its softmax in one iteration, `rows` queries of a sample and of all
// heads.
struct Expected {
  AttentionAttributes attention;
  GemmAttributes scores, mix;
  RowsAttributes softmax;
};

// What a body must hold whose first product and softmax these are; nothing where they are not of
// causal attention.
std::optional<Expected> expected_of(const Node& scores, const Node& softmax) {
  if (scores.op != Op::kGemm || softmax.op != Op::kCausalSoftmax) return {};
  const auto& g = std::get<GemmAttributes>(scores.attributes);
  const auto& r = std::get<RowsAttributes>(softmax.attributes);
  const int64_t heads = g.batch, rows = g.m, time = g.n, size = g.k, width = heads * size;
  Expected e;
  e.attention = {.time = time, .heads = heads, .size = size, .scale = g.alpha};
  e.scores = {.batch = heads,
              .m = rows,
              .n = time,
              .k = size,
              .a = {size, width, 1},
              .b = {size, 1, width},
              .c = {rows * time, time, 1},
              .alpha = g.alpha,
              .limit = GemmLimit::kN,
              .limit_rows = rows,
              .limit_period = r.period};
  e.mix = {.batch = heads,
           .m = rows,
           .n = size,
           .k = time,
           .a = {rows * time, time, 1},
           .b = {size, width, 1},
           .c = {size, width, 1},
           .limit = GemmLimit::kK,
           .limit_rows = rows,
           .limit_period = r.period};
  e.softmax = {.batch = heads, .rows = rows, .width = time, .stride = time, .period = r.period};
  if (g != e.scores || r != e.softmax || rows * r.period != time) return {};
  return e;
}

bool is_gemm(const Node& node, const GemmAttributes& attributes, ValueId a, ValueId b) {
  return node.op == Op::kGemm && std::get<GemmAttributes>(node.attributes) == attributes &&
         node.inputs[0] == a && node.inputs[1] == b;
}

// The gradient of a product's second operand.
bool is_gradient_of_b(const Node& node, const GemmAttributes& product, ValueId a, ValueId dc) {
  bool swapped = false;
  const GemmAttributes g = gemm_grad_b(product, swapped);
  return is_gemm(node, g, swapped ? dc : a, swapped ? a : dc);
}

// A sample's queries are walked through while its keys and values stay: queries and results have
// period 1, the others `period`.
bool has_periods(const Node& node, int64_t period, const std::vector<bool>& walks) {
  for (size_t i = 0; i < walks.size(); ++i) {
    if (node.periods[i] != (walks[i] ? 1 : period)) return false;
  }
  return node.addends.empty();
}

// Of all samples of the node: q, k and v have as many.
std::optional<AttentionAttributes> whole(const Graph& graph, const Node& node, const Expected& e) {
  AttentionAttributes a = e.attention;
  const int64_t sample = a.time * a.heads * a.size;
  const int64_t elements = graph.type(node.inputs[0]).shape.elements();
  a.samples = elements / sample;
  for (size_t k = 0; k < 3; ++k) {
    if (graph.type(node.inputs[k]).shape.elements() != elements) return {};
  }
  const int64_t count = std::get<ChunkedAttributes>(node.attributes).count;
  if (elements % sample != 0 || count != a.samples * e.softmax.period) return {};
  choose_device_calls(a);
  return a;
}

// The body's operands by number.
std::array<ValueId, 4> operands_of(const Graph& body) {
  std::array<ValueId, 4> operands = {kNoValue, kNoValue, kNoValue, kNoValue};
  for (const Node& n : body.nodes) {
    if (n.op != Op::kOperand) continue;
    operands.at(static_cast<size_t>(std::get<StateAttributes>(n.attributes).slot)) = n.outputs[0];
  }
  return operands;
}

// Its attributes where the chunked node computes y = attention(q, k, v).
std::optional<AttentionAttributes> forward_of(const Graph& graph, const Node& node) {
  if (node.op != Op::kChunked || node.inputs.size() != 3 || node.outputs.size() != 1) return {};
  const Graph& body = *node.body;
  const std::vector<const Node*> nodes = computing(body);
  if (nodes.size() != 3) return {};
  const std::optional<Expected> e = expected_of(*nodes[0], *nodes[1]);
  if (!e) return {};
  const auto [q, k, v, none] = operands_of(body);
  const ValueId scores = nodes[0]->outputs[0], p = nodes[1]->outputs[0];
  const bool wired = is_gemm(*nodes[0], e->scores, q, k) && nodes[1]->inputs[0] == scores &&
                     is_gemm(*nodes[2], e->mix, p, v) &&
                     body.outputs[0].value == nodes[2]->outputs[0] &&
                     has_periods(node, e->softmax.period, {true, false, false, true});
  return wired ? whole(graph, node, *e) : std::nullopt;
}

// The same where it computes (dq, dk, dv) from (q, k, v, dy): its body is the forward's, without
// the last product, and the vjp of that.
std::optional<AttentionAttributes> backward_of(const Graph& graph, const Node& node) {
  if (node.op != Op::kChunked || node.inputs.size() != 4 || node.outputs.size() != 3) return {};
  const Graph& body = *node.body;
  std::vector<const Node*> nodes = computing(body);
  // Results of operands that iterations share are widened where the type is narrow.
  std::erase_if(nodes, [](const Node* n) { return n->op == Op::kCopy; });
  if (nodes.size() != 7) return {};
  const std::optional<Expected> e = expected_of(*nodes[0], *nodes[1]);
  if (!e) return {};
  const auto [q, k, v, dy] = operands_of(body);
  const Node &dv = *nodes[2], &dp = *nodes[3], &ds = *nodes[4], &dk = *nodes[5], &dq = *nodes[6];
  const ValueId scores = nodes[0]->outputs[0], p = nodes[1]->outputs[0];
  const bool wired =
      is_gemm(*nodes[0], e->scores, q, k) && nodes[1]->inputs[0] == scores &&
      is_gradient_of_b(dv, e->mix, p, dy) && is_gemm(dp, gemm_grad_a(e->mix), dy, v) &&
      ds.op == Op::kSoftmaxGrad && std::get<RowsAttributes>(ds.attributes) == e->softmax &&
      ds.inputs[0] == dp.outputs[0] && ds.inputs[1] == p &&
      is_gradient_of_b(dk, e->scores, q, ds.outputs[0]) &&
      is_gemm(dq, gemm_grad_a(e->scores), ds.outputs[0], k) &&
      has_periods(node, e->softmax.period, {true, false, false, true, true, false, false});
  if (!wired) return {};
  const std::array<const Node*, 3> results = {&dq, &dk, &dv};
  for (size_t i = 0; i < results.size(); ++i) {
    const Node& last = producer(body, body.outputs[i].value);
    const ValueId result = last.op == Op::kCopy ? last.inputs[0] : body.outputs[i].value;
    if (result != results[i]->outputs[0]) return {};
  }
  return whole(graph, node, *e);
}

// Whether the target has a kernel for it. cuDNN's (its documentation, "Fused attention") are for 16
// bits and heads of multiples of 8 up to 128 on all GPUs, and of more than one query; backward
// takes a workspace.
bool has_kernel(Backend backend, const AttentionAttributes& a, DType dtype) {
  if (backend == Backend::kCpu) return true;
  return size_of(dtype) == 2 && a.time > 1 && a.size % 8 == 0 && a.size <= 128;
}

class AttentionFuser {
 public:
  AttentionFuser(const Graph& from, Backend backend)
      : from_(from), backend_(backend), rewriter_(from, to_) {}

  Graph run() {
    find();
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      const auto id = static_cast<NodeId>(i);
      if (const auto forward = forwards_.find(id); forward != forwards_.end()) {
        emit_forward(id, forward->second);
      } else if (const auto backward = backwards_.find(id); backward != backwards_.end()) {
        emit_backward(id, backward->second);
      } else if (narrowed(id) == kNoValue) {
        const NodeId copied = rewriter_.copy(id);
        to_.nodes[static_cast<size_t>(copied)].origin = node(id).origin;
      } else {
        rewriter_.set(from_.nodes[i].outputs[0], rewriter_.map(narrowed(id)));
      }
    }
    rewriter_.finish();
    return std::move(to_);
  }

 private:
  struct Pair {
    AttentionAttributes attributes;
    NodeId forward = -1;
  };

  const Node& node(NodeId id) const { return from_.nodes[static_cast<size_t>(id)]; }

  void find() {
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      const auto id = static_cast<NodeId>(i);
      if (const auto a = forward_of(from_, node(id)); a && takes(id, *a)) forwards_[id] = *a;
      const auto a = backward_of(from_, node(id));
      if (!a || !takes(id, *a) || a->samples_a_call == 0) continue;
      const NodeId forward = forward_for(id, *a);
      if (forward >= 0 && gives_narrow(id)) backwards_[id] = {*a, forward};
    }
  }

  bool takes(NodeId id, const AttentionAttributes& a) const {
    return has_kernel(backend_, a, from_.type(node(id).inputs[0]).dtype);
  }

  // The forward node that reads the same values as the backward node, in the same region if there
  // is one: backward may have computed it again.
  NodeId forward_for(NodeId backward, const AttentionAttributes& wanted) const {
    NodeId found = -1;
    for (const auto& [id, attributes] : forwards_) {
      bool same = attributes == wanted;
      for (size_t k = 0; k < 3; ++k) {
        same = same && same_value(node(id).inputs[k], node(backward).inputs[k]);
      }
      if (!same) continue;
      if (found < 0 || region_of(from_, node(id)) == region_of(from_, node(backward))) found = id;
    }
    return found;
  }

  // What is computed again is the same value: it derives from the same node.
  bool same_value(ValueId a, ValueId b) const {
    int64_t offset = 0;
    const auto to_root = [&](ValueId v, int64_t sign) {
      while (producer(from_, v).op == Op::kView) {
        offset += sign * std::get<ViewAttributes>(producer(from_, v).attributes).offset;
        v = producer(from_, v).inputs[0];
      }
      return v;
    };
    const ValueId x = to_root(a, 1), y = to_root(b, -1);
    const Node &from_x = producer(from_, x), &from_y = producer(from_, y);
    return offset == 0 && from_x.origin == from_y.origin &&
           from_.values[static_cast<size_t>(x)].result ==
               from_.values[static_cast<size_t>(y)].result;
  }

  // Whether each result has the type of its operand, or is only read to be rounded to it: those
  // copies then stand for the fused kernel's results.
  bool gives_narrow(NodeId backward) {
    const DType narrow = from_.type(node(backward).inputs[0]).dtype;
    std::vector<std::pair<NodeId, ValueId>> copies;
    for (ValueId v : node(backward).outputs) {
      if (from_.type(v).dtype == narrow) continue;
      for (size_t i = 0; i < from_.nodes.size(); ++i) {
        const Node& reader = from_.nodes[i];
        const bool reads = std::count(reader.inputs.begin(), reader.inputs.end(), v) +
                               std::count(reader.addends.begin(), reader.addends.end(), v) >
                           0;
        if (!reads) continue;
        const bool rounds = reader.op == Op::kCopy && reader.addends.empty() &&
                            reader.inputs.size() == 1 &&
                            from_.type(reader.outputs[0]).dtype == narrow;
        if (!rounds) return false;
        copies.push_back({static_cast<NodeId>(i), v});
      }
    }
    narrowed_.insert(copies.begin(), copies.end());
    return true;
  }

  // The result of a fused node that a copy rounded, or kNoValue.
  ValueId narrowed(NodeId id) const {
    const auto found = narrowed_.find(id);
    return found == narrowed_.end() ? kNoValue : found->second;
  }

  Node fused(NodeId id, Op op, const AttentionAttributes& attributes) const {
    Node fused = node(id);
    fused.op = op;
    fused.attributes = attributes;
    fused.origin = id;
    fused.repeats_forward = false;
    fused.body = nullptr;
    fused.inputs.clear();
    fused.outputs.clear();
    fused.periods.clear();
    return fused;
  }

  void emit_forward(NodeId id, const AttentionAttributes& attributes) {
    Node attention = fused(id, Op::kAttention, attributes);
    for (ValueId v : node(id).inputs) attention.inputs.push_back(rewriter_.map(v));
    const Type y = from_.type(node(id).outputs[0]);
    const int64_t rows = attributes.samples * attributes.heads * attributes.time;
    const NodeId made =
        to_.add(std::move(attention), {y, {accumulator_of(y.dtype), Shape{rows}, y.placement}});
    const std::vector<ValueId>& results = to_.nodes[static_cast<size_t>(made)].outputs;
    rewriter_.set(node(id).outputs[0], results[0]);
    results_of_[id] = {results[0], results[1]};
  }

  void emit_backward(NodeId id, const Pair& pair) {
    Node grad = fused(id, Op::kAttentionGrad, pair.attributes);
    for (size_t k : {3, 0, 1, 2}) grad.inputs.push_back(rewriter_.map(node(id).inputs[k]));
    const auto [y, log_sum_exp] = results_of_.at(pair.forward);
    grad.inputs.push_back(y);
    grad.inputs.push_back(log_sum_exp);
    std::vector<Type> types;
    for (ValueId v : node(id).outputs) {
      types.push_back(from_.type(v));
      types.back().dtype = from_.type(node(id).inputs[0]).dtype;
    }
    const NodeId made = to_.add(std::move(grad), types);
    for (size_t k = 0; k < types.size(); ++k) {
      rewriter_.set(node(id).outputs[k], to_.nodes[static_cast<size_t>(made)].outputs[k]);
    }
  }

  const Graph& from_;
  const Backend backend_;
  Graph to_;
  Rewriter rewriter_;
  std::map<NodeId, AttentionAttributes> forwards_;
  std::map<NodeId, Pair> backwards_;
  std::map<NodeId, ValueId> narrowed_;  // copies that are not needed, and what they round
  std::map<NodeId, std::pair<ValueId, ValueId>> results_of_;  // y and log-sum-exp of a forward node
};

}  // namespace

Graph fuse_attention(const Graph& graph, Backend backend) {
  const bool tangents = std::any_of(graph.nodes.begin(), graph.nodes.end(),
                                    [](const Node& node) { return node.dual || node.tangent; });
  return tangents ? graph : AttentionFuser(graph, backend).run();
}

}  // namespace memwall
