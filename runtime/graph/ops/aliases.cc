// Leaves and aliases: they name bytes and cost nothing.
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {
namespace {

OpRules linear() {
  OpRules rules;
  rules.tangent = TangentRule::kLinear;
  return rules;
}

}  // namespace

OpRules state() {
  return {};
}
OpRules operand() {
  return {};
}
// The cotangent of a view goes to its part of the buffer's: vjp resolves views itself.
OpRules view() {
  return linear();
}
OpRules shard_view() {
  return linear();
}
OpRules concat() {
  return linear();
}

OpRules replicate() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    return std::vector<Type>{like_input(g, n, 0)};
  };
  rules.vjp = [](VjpContext& c) { c.parameter(c.cotangent(0)); };
  return rules;
}

}  // namespace memwall::ops
