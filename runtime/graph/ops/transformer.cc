// Layer norm, softmax, embedding, cross-entropy: rows of a tensor seen as (batch, rows, width).
#include "runtime/base/workspace.h"
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {
namespace {

const RowsAttributes& rows_of(const Node& n) {
  return std::get<RowsAttributes>(n.attributes);
}

template <int kPerElement>
int64_t row_flops(const Graph&, const Node& n) {
  const RowsAttributes& r = rows_of(n);
  return kPerElement * r.batch * r.rows * r.width;
}

Type row_statistic(const Graph& g, const Node& n, int like) {
  const Type type = like_input(g, n, like);
  const RowsAttributes& r = rows_of(n);
  return {accumulator_of(type.dtype), Shape{r.batch * r.rows}, type.placement};
}

std::vector<Type> same_as_first(const Graph& g, const Node& n) {
  return {like_input(g, n, 0)};
}

}  // namespace

// Ba, Kiros and Hinton 2016.
OpRules layer_norm() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = [](const Graph& g, const Node& n) {
    const Type statistic = row_statistic(g, n, 0);
    return std::vector<Type>{like_input(g, n, 0), statistic, statistic};
  };
  rules.vjp = [](VjpContext& c) {
    const Node& n = c.node();
    const ValueId dy = c.cotangent(0), x = n.inputs[0];
    const ValueId mean = n.outputs[1], rstd = n.outputs[2];
    if (c.needs(1)) {
      c.contribute(1, "scale_grad", Op::kLayerNormScaleGrad, n.attributes, {dy, x, mean, rstd});
    }
    if (c.needs(2)) c.contribute(2, "shift_grad", Op::kColumnSum, n.attributes, {dy});
    if (c.needs(0)) {
      c.contribute(0, "grad", Op::kLayerNormGrad, n.attributes, {dy, x, n.inputs[1], mean, rstd});
    }
  };
  rules.flops = row_flops<8>;
  return rules;
}

OpRules layer_norm_grad() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = same_as_first;
  rules.flops = row_flops<14>;
  rules.in_place = {{0, 0}};
  rules.accumulates = true;
  return rules;
}

OpRules layer_norm_scale_grad() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = [](const Graph& g, const Node& n) {
    Type type = like_input(g, n, 0);
    type.shape = Shape{rows_of(n).width};
    return std::vector<Type>{type};
  };
  rules.flops = row_flops<4>;
  rules.accumulates = true;
  rules.device_workspace_bytes = [](const Graph& g, const Node& n) {
    return block_sums_workspace_bytes(rows_of(n).batch * rows_of(n).rows,
                                      rows_of(n).width * (n.dual ? 2 : 1),
                                      g.type(n.inputs[0]).dtype);
  };
  return rules;
}

OpRules causal_softmax() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = same_as_first;
  rules.vjp = [](VjpContext& c) {
    c.contribute(0, "grad", Op::kSoftmaxGrad, c.node().attributes,
                 {c.cotangent(0), c.node().outputs[0]});
  };
  rules.flops = row_flops<6>;
  rules.in_place = {{0, 0}};
  return rules;
}

OpRules softmax_grad() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = same_as_first;
  rules.flops = row_flops<4>;
  rules.in_place = {{0, 0}};
  return rules;
}

OpRules embedding() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.infer = [](const Graph& g, const Node& n) {
    Type type = g.type(n.inputs[1]);
    type.shape = Shape{rows_of(n).rows, rows_of(n).width};
    type.placement = g.type(n.inputs[0]).placement;
    return std::vector<Type>{type};
  };
  rules.vjp = [](VjpContext& c) {
    if (c.needs(1)) {
      c.contribute(1, "grad", Op::kEmbeddingGrad, c.node().attributes,
                   {c.node().inputs[0], c.cotangent(0)});
    }
  };
  return rules;
}

OpRules embedding_grad() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.flops = row_flops<1>;
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    return embedding_grad_workspace_bytes(g.type(n.outputs[0]).shape[0], rows_of(n).rows);
  };
  rules.device_workspace_bytes = [](const Graph& g, const Node& n) {
    return device_embedding_grad_workspace_bytes(g.type(n.outputs[0]).shape[0], rows_of(n).rows);
  };
  rules.accumulates = true;
  return rules;
}

OpRules cross_entropy() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = [](const Graph& g, const Node& n) {
    const Type statistic = row_statistic(g, n, 0);
    return std::vector<Type>{statistic, statistic};
  };
  rules.vjp = [](VjpContext& c) {
    const Node& n = c.node();
    c.contribute(0, "grad", Op::kCrossEntropyGrad, n.attributes,
                 {c.cotangent(0), n.inputs[0], n.inputs[1], n.outputs[1]});
  };
  rules.flops = row_flops<5>;
  return rules;
}

OpRules cross_entropy_grad() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = [](const Graph& g, const Node& n) {
    return std::vector<Type>{like_input(g, n, 1)};
  };
  rules.flops = row_flops<5>;
  rules.in_place = {{0, 1}};
  return rules;
}

}  // namespace memwall::ops
