// Attention as one op: what a target's selection puts in the place of a chunked node
// (passes/fuse_attention.h). It has no derivative: selection comes after vjp.
#include "runtime/base/workspace.h"
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {
namespace {

const AttentionAttributes& attention_of(const Node& n) {
  return std::get<AttentionAttributes>(n.attributes);
}

DType dtype_of(const Graph& g, const Node& n) {
  return g.type(n.inputs[0]).dtype;
}

// Of `products` products between the queries and the keys up to their own. What backward computes
// again is not counted.
int64_t causal_flops(const Node& n, int64_t products) {
  const AttentionAttributes& a = attention_of(n);
  return a.samples * a.heads * (a.time * (a.time + 1) / 2) * 2 * a.size * products;
}

}  // namespace

OpRules attention() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    const AttentionAttributes& a = attention_of(n);
    const Type y = like_input(g, n, 0);
    return std::vector<Type>{
        y, {accumulator_of(y.dtype), Shape{a.samples * a.heads * a.time}, y.placement}};
  };
  rules.flops = [](const Graph&, const Node& n) { return causal_flops(n, 2); };
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    return attention_workspace_bytes(attention_of(n), dtype_of(g, n));
  };
  rules.device_workspace_bytes = [](const Graph&, const Node&) {
    return kDeviceAttentionWorkspaceBytes;
  };
  return rules;
}

OpRules attention_grad() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    return std::vector<Type>(3, like_input(g, n, 0));
  };
  rules.flops = [](const Graph&, const Node& n) { return causal_flops(n, 4); };
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    return attention_grad_workspace_bytes(attention_of(n), dtype_of(g, n));
  };
  rules.device_workspace_bytes = [](const Graph&, const Node& n) {
    return device_attention_grad_workspace_bytes(attention_of(n));
  };
  return rules;
}

}  // namespace memwall::ops
