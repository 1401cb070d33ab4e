// Products that do more before they store: what a target's selection puts in the place of a product
// and what follows it (passes/select.h). They have no derivative: selection comes after vjp.
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {
namespace {

// As many for each element of the result as the plain ops that follow the product.
template <int64_t kEach>
int64_t product_flops(const Graph& g, const Node& n) {
  return rules_of(Op::kGemm).flops(g, n) + kEach * g.type(n.outputs[0]).shape.elements();
}

// Of the product's scratch, types and shape; whoever emits the node states the result's shape.
OpRules product() {
  const OpRules gemm_rules = gemm();
  OpRules rules;
  rules.workspace_bytes = gemm_rules.workspace_bytes;
  rules.device_workspace_bytes = gemm_rules.device_workspace_bytes;
  return rules;
}

}  // namespace

OpRules gemm_bias() {
  OpRules rules = product();
  rules.flops = product_flops<1>;
  return rules;
}

OpRules gemm_bias_gelu() {
  OpRules rules = product();
  rules.flops = product_flops<9>;
  return rules;
}

OpRules gemm_gelu_grad() {
  OpRules rules = product();
  rules.infer = [](const Graph& g, const Node& n) {
    return std::vector<Type>{like_input(g, n, 2)};
  };
  rules.flops = product_flops<16>;
  return rules;
}

}  // namespace memwall::ops
