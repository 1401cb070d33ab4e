#include "runtime/base/workspace.h"
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {
namespace {

std::vector<Type> same_as_first(const Graph& g, const Node& n) {
  return {like_input(g, n, 0)};
}

template <int kPerElement>
int64_t elementwise_flops(const Graph& g, const Node& n) {
  return kPerElement * g.type(n.outputs[0]).shape.elements();
}

int64_t input_flops(const Graph& g, const Node& n) {
  return g.type(n.inputs[0]).shape.elements();
}

}  // namespace

OpRules fill() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;  // in the scalar
  return rules;
}

OpRules copy() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.infer = same_as_first;  // a conversion states its type
  rules.vjp = [](VjpContext& c) {
    c.contribute(0, "grad", Op::kCopy, NoAttributes{}, {c.cotangent(0)});
  };
  rules.in_place = {{0, 1}};  // a second input is where the copy goes
  rules.accumulates = true;
  return rules;
}

OpRules add() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.infer = same_as_first;
  rules.vjp = [](VjpContext& c) {
    for (int i : {0, 1}) {
      if (c.needs(i)) c.pass(i, c.cotangent(0));
    }
  };
  rules.flops = elementwise_flops<1>;
  rules.in_place = {{0, 0}, {0, 1}};
  return rules;
}

OpRules bias() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.infer = same_as_first;
  rules.vjp = [](VjpContext& c) {
    if (c.needs(1)) {
      c.contribute(1, "bias_grad", Op::kColumnSum, c.node().attributes, {c.cotangent(0)});
    }
    if (c.needs(0)) c.pass(0, c.cotangent(0));
  };
  rules.flops = elementwise_flops<1>;
  rules.in_place = {{0, 0}};
  return rules;
}

OpRules column_sum() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.infer = [](const Graph& g, const Node& n) {
    const auto& rows = std::get<RowsAttributes>(n.attributes);
    Type type = like_input(g, n, 0);
    type.shape = Shape{rows.batch * rows.width};
    return std::vector<Type>{type};
  };
  rules.flops = input_flops;
  rules.accumulates = true;
  rules.device_workspace_bytes = [](const Graph& g, const Node& n) {
    const auto& rows = std::get<RowsAttributes>(n.attributes);
    return block_sums_workspace_bytes(rows.rows, rows.batch * rows.width,
                                      g.type(n.inputs[0]).dtype);
  };
  return rules;
}

OpRules sum() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.infer = [](const Graph&, const Node&) {
    return std::vector<Type>{{DType::kF64, Shape{1}, Placement::kPartial}};
  };
  rules.vjp = [](VjpContext& c) {
    c.contribute(0, "grad", Op::kFill, FillAttributes{1.0, 0}, {c.cotangent(0)});
  };
  rules.flops = input_flops;
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    return sum_workspace_bytes(g.type(n.inputs[0]).shape.elements(), 1);
  };
  rules.accumulates = true;
  return rules;
}

OpRules dropout() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  rules.infer = same_as_first;
  rules.vjp = [](VjpContext& c) {
    c.contribute(0, "grad", Op::kDropout, c.node().attributes,
                 {c.cotangent(0), c.node().inputs[1]});
  };
  rules.flops = elementwise_flops<1>;
  rules.in_place = {{0, 0}};
  rules.accumulates = true;
  return rules;
}

OpRules gelu() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = same_as_first;
  rules.vjp = [](VjpContext& c) {
    c.contribute(0, "grad", Op::kGeluGrad, NoAttributes{}, {c.cotangent(0), c.node().inputs[0]});
  };
  rules.flops = elementwise_flops<8>;
  rules.in_place = {{0, 0}};
  return rules;
}

OpRules gelu_grad() {
  OpRules rules;
  rules.tangent = TangentRule::kDual;
  rules.infer = same_as_first;
  rules.flops = elementwise_flops<16>;
  rules.in_place = {{0, 0}, {0, 1}};
  return rules;
}

}  // namespace memwall::ops
