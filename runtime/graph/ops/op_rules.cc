#include "runtime/graph/ops/op_rules.h"

#include <array>

#include "runtime/graph/ops/rules_list.h"

namespace memwall {
namespace {

// In the order of the op list (base/op.h).
std::array<OpRules, kOpCount> make_table() {
  return {ops::state(),
          ops::operand(),
          ops::view(),
          ops::shard_view(),
          ops::concat(),
          ops::replicate(),
          ops::fill(),
          ops::copy(),
          ops::add(),
          ops::bias(),
          ops::column_sum(),
          ops::gemm(),
          ops::sum(),
          ops::layer_norm(),
          ops::layer_norm_grad(),
          ops::layer_norm_scale_grad(),
          ops::gelu(),
          ops::gelu_grad(),
          ops::dropout(),
          ops::causal_softmax(),
          ops::softmax_grad(),
          ops::embedding(),
          ops::embedding_grad(),
          ops::cross_entropy(),
          ops::cross_entropy_grad(),
          ops::chunked(),
          ops::bias_gelu(),
          ops::add_layer_norm(),
          ops::gelu_grad_columns(),
          ops::layer_norm_grads(),
          ops::attention(),
          ops::attention_grad(),
          ops::gemm_bias(),
          ops::gemm_bias_gelu(),
          ops::gemm_gelu_grad(),
          ops::all_gather(),
          ops::reduce_scatter(),
          ops::all_reduce(),
          ops::sign(),
          ops::sign_product(),
          ops::sum_parts(),
          ops::row_partials(),
          ops::spatial_average(),
          ops::initialize(),
          ops::sum_squares(),
          ops::step_control(),
          ops::adamw(),
          ops::sgd(),
          ops::adahessian()};
}

}  // namespace

const OpRules& rules_of(Op op) {
  static const std::array<OpRules, kOpCount> table = make_table();
  return table[static_cast<size_t>(op)];
}

namespace {

// How many of a dual node's inputs are the op's own.
size_t own_inputs(const Graph& graph, const Node& node) {
  size_t own = 0, tangents = 0;
  while (own + tangents < node.inputs.size()) {
    tangents += is_floating(graph.type(node.inputs[own]).dtype) ? 1 : 0;
    ++own;
  }
  return own;
}

}  // namespace

int64_t workspace_of(const Graph& graph, const Node& node, Backend backend) {
  const OpRules& rules = rules_of(node.op);
  if (backend == Backend::kCuda && rules.device_workspace_bytes != nullptr) {
    return rules.device_workspace_bytes(graph, node);
  }
  return rules.workspace_bytes != nullptr ? rules.workspace_bytes(graph, node) : -1;
}

Node without_tangents(const Graph& graph, const Node& node) {
  Node plain = node;
  if (!node.dual) return plain;
  plain.dual = false;
  plain.inputs.resize(own_inputs(graph, node));
  plain.outputs.resize(node.outputs.size() / 2);
  if (!plain.addends.empty()) plain.addends.resize(plain.outputs.size());
  return plain;
}

std::vector<std::pair<int32_t, int32_t>> in_place_pairs(const Graph& graph, const Node& node) {
  std::vector<std::pair<int32_t, int32_t>> pairs = rules_of(node.op).in_place;
  if (!node.dual) return pairs;
  const size_t own = own_inputs(graph, node), values = pairs.size();
  const auto results = static_cast<int32_t>(node.outputs.size() / 2);
  for (size_t i = 0; i < values; ++i) {
    const auto input = static_cast<size_t>(pairs[i].second);
    auto tangent = static_cast<int32_t>(own);
    for (size_t k = 0; k < input; ++k) tangent += is_floating(graph.type(node.inputs[k]).dtype);
    pairs.push_back({pairs[i].first + results, tangent});
  }
  return pairs;
}

int64_t flops_of(const Graph& graph, const Node& node) {
  const auto flops = rules_of(node.op).flops;
  if (flops == nullptr) return 0;
  return (*flops)(graph, node) * (node.dual ? 3 : 1);
}

namespace ops {

Placement joined_placement(const Graph& graph, const Node& node) {
  for (ValueId v : node.inputs) {
    if (graph.type(v).placement == Placement::kBatchSplit) return Placement::kBatchSplit;
  }
  return node.inputs.empty() ? Placement::kReplicated : graph.type(node.inputs[0]).placement;
}

Type like_input(const Graph& graph, const Node& node, int like) {
  Type type = graph.type(node.inputs[static_cast<size_t>(like)]);
  type.placement = joined_placement(graph, node);
  return type;
}

}  // namespace ops
}  // namespace memwall
