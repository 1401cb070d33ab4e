#include "runtime/passes/fuse_attention.h"

#include <algorithm>
#include <map>
#include <optional>

#include "runtime/base/workspace.h"
#include "runtime/graph/rewrite.h"

namespace memwall {
namespace {

const Node& producer(const Graph& graph, ValueId v) {
  return graph.nodes[static_cast<size_t>(graph.values[static_cast<size_t>(v)].node)];
}

// Which operand of the body `v` is, or -1.
int64_t operand_of(const Graph& body, ValueId v) {
  const Node& node = producer(body, v);
  return node.op == Op::kOperand ? std::get<StateAttributes>(node.attributes).slot : -1;
}

// The nodes of a body that compute.
std::vector<const Node*> computing(const Graph& body) {
  std::vector<const Node*> nodes;
  for (const Node& node : body.nodes) {
    if (node.op != Op::kOperand) nodes.push_back(&node);
  }
  return nodes;
}

// One iteration takes `rows` queries of a sample, of all heads: scores = scale q k^T, and their
// causal softmax.
std::optional<AttentionAttributes> scores_of(const Graph& body, const Node& scores,
                                             const Node& softmax) {
  if (scores.op != Op::kGemm || softmax.op != Op::kCausalSoftmax) return {};
  const auto& g = std::get<GemmAttributes>(scores.attributes);
  const auto& r = std::get<RowsAttributes>(softmax.attributes);
  const int64_t heads = g.batch, rows = g.m, time = g.n, size = g.k, width = heads * size;
  GemmAttributes expected;
  expected.batch = heads;
  expected.m = rows;
  expected.n = time;
  expected.k = size;
  expected.a = {size, width, 1};
  expected.b = {size, 1, width};
  expected.c = {rows * time, time, 1};
  expected.alpha = g.alpha;
  expected.limit = GemmLimit::kN;
  expected.limit_rows = rows;
  expected.limit_period = r.period;
  const bool is_causal = r.batch == heads && r.rows == rows && r.width == time &&
                         r.stride == time && rows * r.period == time;
  if (g != expected || !is_causal || softmax.inputs[0] != scores.outputs[0] ||
      operand_of(body, scores.inputs[0]) != 0 || operand_of(body, scores.inputs[1]) != 1) {
    return {};
  }
  return AttentionAttributes{.time = time, .heads = heads, .size = size, .scale = g.alpha};
}

void set_samples(AttentionAttributes& a, const Type& q) {
  a.samples = q.shape.elements() / (a.time * a.heads * a.size);
  a.samples_a_call = device_attention_samples(a);
}

bool is_gemm(const Node& node, ValueId a, ValueId b) {
  return node.op == Op::kGemm && node.inputs[0] == a && node.inputs[1] == b;
}

// Its attributes where the chunked node computes y = attention(q, k, v).
std::optional<AttentionAttributes> forward_of(const Graph& graph, const Node& node) {
  if (node.op != Op::kChunked || node.inputs.size() != 3 || node.outputs.size() != 1) return {};
  const Graph& body = *node.body;
  const std::vector<const Node*> nodes = computing(body);
  if (nodes.size() != 3) return {};
  std::optional<AttentionAttributes> a = scores_of(body, *nodes[0], *nodes[1]);
  if (!a || nodes[2]->op != Op::kGemm) return {};
  const auto& mix = std::get<GemmAttributes>(nodes[2]->attributes);
  if (nodes[2]->inputs[0] != nodes[1]->outputs[0] || operand_of(body, nodes[2]->inputs[1]) != 2 ||
      mix.n != a->size || mix.alpha != 1.0 || body.outputs[0].value != nodes[2]->outputs[0]) {
    return {};
  }
  set_samples(*a, graph.type(node.inputs[0]));
  return a;
}

// The same where it computes (dq, dk, dv) from (q, k, v, dy): its body is the forward's, without
// the last product, and the vjp of that.
std::optional<AttentionAttributes> backward_of(const Graph& graph, const Node& node) {
  if (node.op != Op::kChunked || node.inputs.size() != 4 || node.outputs.size() != 3) return {};
  if (!node.addends.empty()) return {};
  const Graph& body = *node.body;
  std::vector<const Node*> nodes = computing(body);
  // Results of operands that iterations share are widened where the type is narrow.
  std::erase_if(nodes, [](const Node* n) { return n->op == Op::kCopy; });
  if (nodes.size() != 7) return {};
  std::optional<AttentionAttributes> a = scores_of(body, *nodes[0], *nodes[1]);
  if (!a) return {};
  std::array<ValueId, 4> operands{};
  for (const Node& n : body.nodes) {
    if (n.op != Op::kOperand) continue;
    operands.at(static_cast<size_t>(std::get<StateAttributes>(n.attributes).slot)) = n.outputs[0];
  }
  const auto [q, k, v, dy] = operands;
  const Node &dv = *nodes[2], &dp = *nodes[3], &ds = *nodes[4], &dk = *nodes[5], &dq = *nodes[6];
  const ValueId p = nodes[1]->outputs[0];
  const bool wired = is_gemm(dv, p, dy) && is_gemm(dp, dy, v) && ds.op == Op::kSoftmaxGrad &&
                     ds.inputs[0] == dp.outputs[0] && ds.inputs[1] == p &&
                     is_gemm(dk, ds.outputs[0], q) && is_gemm(dq, ds.outputs[0], k);
  if (!wired) return {};
  const std::array<const Node*, 3> results = {&dq, &dk, &dv};
  for (size_t i = 0; i < results.size(); ++i) {
    const Node& last = producer(body, body.outputs[i].value);
    const ValueId result = last.op == Op::kCopy ? last.inputs[0] : body.outputs[i].value;
    if (result != results[i]->outputs[0]) return {};
  }
  set_samples(*a, graph.type(node.inputs[0]));
  return a;
}

// Whether the target has a kernel for it. cuDNN's (its documentation, "Fused attention") are for 16
// bits and heads of multiples of 8 up to 128 on all GPUs, and of more than one query.
bool has_kernel(Backend backend, const AttentionAttributes& a, DType dtype) {
  if (backend == Backend::kCpu) return true;
  return size_of(dtype) == 2 && a.time > 1 && a.size % 8 == 0 && a.size <= 128 &&
         a.samples_a_call > 0;
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
      if (!a || !takes(id, *a)) continue;
      const NodeId forward = forward_for(id);
      if (forward >= 0 && gives_narrow(id)) backwards_[id] = {*a, forward};
    }
  }

  bool takes(NodeId id, const AttentionAttributes& a) const {
    return has_kernel(backend_, a, from_.type(node(id).inputs[0]).dtype);
  }

  // The forward node that reads the same values as the backward node, in the same region if there
  // is one: backward may have computed it again.
  NodeId forward_for(NodeId backward) const {
    NodeId found = -1;
    for (const auto& [id, attributes] : forwards_) {
      bool same = true;
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
