// Chunked nodes and collectives.
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {

OpRules chunked() {
  OpRules rules;
  rules.tangent = TangentRule::kBody;
  rules.vjp = [](VjpContext& c) { c.chunked(); };
  rules.flops = [](const Graph&, const Node& n) {
    int64_t flops = 0;
    for (const Node& inner : n.body->nodes) {
      flops += flops_of(*n.body, inner);
    }
    return flops * std::get<ChunkedAttributes>(n.attributes).count;
  };
  return rules;
}

// Its transpose is reduce_scatter; whether the scatter happens here or after accumulation is the
// shard pass's choice.
OpRules all_gather() {
  OpRules rules;
  rules.vjp = [](VjpContext& c) { c.parameter(c.cotangent(0)); };
  return rules;
}

OpRules reduce_scatter() {
  return {};
}

OpRules all_reduce() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    Type type = g.type(n.inputs[0]);
    type.placement = Placement::kReplicated;
    return std::vector<Type>{type};
  };
  rules.in_place = {{0, 0}};
  return rules;
}

}  // namespace memwall::ops
