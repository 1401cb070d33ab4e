#include "runtime/passes/select.h"

#include <algorithm>
#include <optional>

#include "runtime/graph/rewrite.h"
#include "runtime/passes/fuse_attention.h"

namespace memwall {
namespace {

// Nodes that one op stands for. It takes the place of the last of them.
struct Fusion {
  Op op = Op::kCopy;
  RowsAttributes attributes;
  std::vector<NodeId> parts;
  std::vector<ValueId> inputs, outputs;  // of the old graph
  NodeId adds = -1;                      // the part whose result is outputs[0] and may be added
};

class Selector {
 public:
  // `blocks_of_rows`: whether kernels that compute blocks of rows pay. On a GPU they are too few
  // to fill it, and what they read again is in its cache.
  Selector(const Graph& from, bool blocks_of_rows)
      : from_(from),
        blocks_of_rows_(blocks_of_rows),
        rewriter_(from, to_),
        readers_(from.values.size()),
        fusion_of_(from.nodes.size(), -1) {
    for (size_t i = 0; i < from.nodes.size(); ++i) {
      for (const auto* list : {&from.nodes[i].inputs, &from.nodes[i].addends}) {
        for (ValueId v : *list) {
          if (v >= 0) readers_[static_cast<size_t>(v)].push_back(static_cast<NodeId>(i));
        }
      }
    }
  }

  Graph run() {
    for (size_t i = 0; i < from_.nodes.size(); ++i) find(from_.nodes[i], static_cast<NodeId>(i));
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      const int32_t fusion = fusion_of_[i];
      if (fusion < 0) {
        rewriter_.copy(static_cast<NodeId>(i));
      } else if (fusions_[static_cast<size_t>(fusion)].parts.back() == static_cast<NodeId>(i)) {
        emit(fusions_[static_cast<size_t>(fusion)]);
      }
    }
    rewriter_.finish();
    return std::move(to_);
  }

 private:
  const Node& node(NodeId id) const { return from_.nodes[static_cast<size_t>(id)]; }
  NodeId producer(ValueId v) const { return from_.values[static_cast<size_t>(v)].node; }
  DType dtype(ValueId v) const { return from_.type(v).dtype; }

  void find(const Node& n, NodeId id) {
    if (n.dual) return;
    std::optional<Fusion> found;
    if (n.op == Op::kGelu) found = bias_gelu(n, id);
    if (n.op == Op::kLayerNorm) found = add_layer_norm(n, id);
    if (n.op == Op::kColumnSum && blocks_of_rows_) found = gelu_grad_columns(n, id);
    if (n.op == Op::kLayerNormGrad && blocks_of_rows_) found = layer_norm_grads(n, id);
    if (!found || !may_fuse(*found)) return;
    for (NodeId part : found->parts) {
      fusion_of_[static_cast<size_t>(part)] = static_cast<int32_t>(fusions_.size());
    }
    fusions_.push_back(*found);
  }

  // Where the sum is needed by backward too: alone, each op works in place and takes less memory.
  std::optional<Fusion> bias_gelu(const Node& gelu, NodeId id) const {
    const ValueId h = gelu.inputs[0];
    const Node& bias = node(producer(h));
    if (bias.op != Op::kBias || readers_[static_cast<size_t>(h)].size() < 2) return {};
    const auto& rows = std::get<RowsAttributes>(bias.attributes);
    if (rows.batch != 1) return {};
    return Fusion{Op::kBiasGelu, rows, {producer(h), id}, bias.inputs, {h, gelu.outputs[0]}, -1};
  }

  std::optional<Fusion> add_layer_norm(const Node& norm, NodeId id) const {
    const ValueId sum = norm.inputs[0];
    const Node& add = node(producer(sum));
    if (add.op != Op::kAdd || readers_[static_cast<size_t>(sum)].size() < 2) return {};
    for (ValueId v : add.inputs) {
      if (dtype(v) != dtype(sum)) return {};
    }
    return Fusion{Op::kAddLayerNorm,
                  std::get<RowsAttributes>(norm.attributes),
                  {producer(sum), id},
                  {add.inputs[0], add.inputs[1], norm.inputs[1], norm.inputs[2]},
                  {sum, norm.outputs[0], norm.outputs[1], norm.outputs[2]},
                  -1};
  }

  std::optional<Fusion> gelu_grad_columns(const Node& columns, NodeId id) const {
    const ValueId dx = columns.inputs[0];
    const Node& grad = node(producer(dx));
    const auto& rows = std::get<RowsAttributes>(columns.attributes);
    if (grad.op != Op::kGeluGrad || grad.dual || rows.batch != 1 || !grad.addends.empty())
      return {};
    return Fusion{Op::kGeluGradColumns,     rows, {producer(dx), id}, grad.inputs,
                  {columns.outputs[0], dx}, id};
  }

  std::optional<Fusion> layer_norm_grads(const Node& grad, NodeId id) const {
    const ValueId dy = grad.inputs[0];
    if (std::get<RowsAttributes>(grad.attributes).batch != 1) return {};
    NodeId scale = -1, shift = -1;
    for (NodeId reader : readers_[static_cast<size_t>(dy)]) {
      const Node& n = node(reader);
      const bool sums = !n.inputs.empty() && n.inputs[0] == dy && n.addends.empty() && reader < id;
      if (!sums || dtype(n.outputs[0]) != dtype(dy)) continue;
      const bool of_this_norm = n.op == Op::kLayerNormScaleGrad && n.inputs[1] == grad.inputs[1] &&
                                n.inputs[2] == grad.inputs[3];
      if (of_this_norm) scale = reader;
      if (n.op == Op::kColumnSum && n.attributes == grad.attributes) shift = reader;
    }
    if (scale < 0 || shift < 0 || dtype(grad.outputs[0]) != dtype(dy)) return {};
    return Fusion{Op::kLayerNormGrads,
                  std::get<RowsAttributes>(grad.attributes),
                  {scale, shift, id},
                  grad.inputs,
                  {grad.outputs[0], node(scale).outputs[0], node(shift).outputs[0]},
                  id};
  }

  // One region, nothing taken twice, and nobody reads a result before the last part has run.
  bool may_fuse(const Fusion& fusion) const {
    const NodeId last = fusion.parts.back();
    for (NodeId part : fusion.parts) {
      const Node& n = node(part);
      if (fusion_of_[static_cast<size_t>(part)] >= 0 || n.recomputed != node(last).recomputed ||
          region_of(from_, n) != region_of(from_, node(last)) ||
          (part != fusion.adds && !n.addends.empty())) {
        return false;
      }
      for (ValueId v : n.outputs) {
        for (NodeId reader : readers_[static_cast<size_t>(v)]) {
          const bool inside =
              std::find(fusion.parts.begin(), fusion.parts.end(), reader) != fusion.parts.end();
          if (!inside && reader < last) return false;
        }
      }
    }
    return true;
  }

  static std::string joined_name(const std::string& first, const std::string& last) {
    return first + '+' + last.substr(last.rfind('/') + 1);
  }

  void emit(const Fusion& fusion) {
    Node fused = node(fusion.parts.back());
    fused.op = fusion.op;
    fused.attributes = fusion.attributes;
    fused.name = joined_name(node(fusion.parts.front()).name, fused.name);
    fused.origin = fusion.parts.back();
    fused.inputs.clear();
    fused.outputs.clear();
    fused.addends.clear();
    for (ValueId v : fusion.inputs) fused.inputs.push_back(rewriter_.map(v));
    if (fusion.adds >= 0 && !node(fusion.adds).addends.empty()) {
      fused.addends.assign(fusion.outputs.size(), kNoValue);
      fused.addends[0] = rewriter_.map(node(fusion.adds).addends[0]);
      fused.addend_skipped_first = node(fusion.adds).addend_skipped_first;
    }
    std::vector<Type> types;
    for (ValueId v : fusion.outputs) types.push_back(from_.type(v));
    const NodeId id = to_.add(std::move(fused), types);
    for (size_t k = 0; k < fusion.outputs.size(); ++k) {
      rewriter_.set(fusion.outputs[k], to_.nodes[static_cast<size_t>(id)].outputs[k]);
    }
  }

  const Graph& from_;
  const bool blocks_of_rows_;
  Graph to_;
  Rewriter rewriter_;
  std::vector<std::vector<NodeId>> readers_;  // by value, in order
  std::vector<int32_t> fusion_of_;            // by node
  std::vector<Fusion> fusions_;
};

}  // namespace

Graph select(const Graph& graph, const std::string& target, bool fuses_attention) {
  if (fuses_attention) return select(fuse_attention(graph, backend_of(target)), target);
  if (target == kPlainCpuTarget) return graph;
  if (target == kCpuTarget) return Selector(graph, true).run();
  std::string allowed = "cpu, cpu_plain";
  for (const char* gpu : kGpuTargets) {
    if (target == gpu) return Selector(graph, false).run();
    allowed.append(", ").append(gpu);
  }
  throw InputError("unknown target \"" + target + "\"", "", "allowed: " + allowed);
}

}  // namespace memwall
