// The functions that make each op's rules; the op table (op_rules.cc) is their list.
#pragma once

#include "runtime/graph/ops/op_rules.h"

namespace memwall::ops {

OpRules state(), operand(), view(), shard_view(), concat(), replicate();
OpRules fill(), copy(), add(), bias(), column_sum(), sum(), dropout(), gelu(), gelu_grad();
OpRules gemm();
OpRules layer_norm(), layer_norm_grad(), layer_norm_scale_grad();
OpRules causal_softmax(), softmax_grad();
OpRules embedding(), embedding_grad();
OpRules cross_entropy(), cross_entropy_grad();
OpRules chunked();
OpRules bias_gelu(), add_layer_norm(), gelu_grad_columns(), layer_norm_grads();
OpRules attention(), attention_grad();
OpRules gemm_bias(), gemm_bias_gelu(), gemm_gelu_grad();
OpRules all_gather(), reduce_scatter(), all_reduce();
OpRules sign(), sign_product(), sum_parts(), row_partials(), spatial_average();
OpRules initialize(), sum_squares(), step_control(), adamw(), sgd(), adahessian();

// The usual type of a result: the shape of input `like`, with the node's placement rule.
Type like_input(const Graph& graph, const Node& node, int like);
Placement joined_placement(const Graph& graph, const Node& node);

}  // namespace memwall::ops
