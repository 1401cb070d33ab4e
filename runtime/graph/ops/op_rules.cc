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
          ops::all_gather(),
          ops::reduce_scatter(),
          ops::all_reduce(),
          ops::initialize(),
          ops::sum_squares(),
          ops::step_control(),
          ops::adamw(),
          ops::sgd()};
}

}  // namespace

const OpRules& rules_of(Op op) {
  static const std::array<OpRules, kOpCount> table = make_table();
  return table[static_cast<size_t>(op)];
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
