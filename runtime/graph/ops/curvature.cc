// Curvature: random signs, and what becomes of z * (H z). Sizes that a unit's table of tensors
// determines (base/averaging.h) are stated by whoever emits the node.
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {

OpRules sign() {
  return {};
}

OpRules sign_product() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {  // a wider dtype is stated
    return std::vector<Type>{like_input(g, n, 0)};
  };
  rules.flops = [](const Graph& g, const Node& n) { return g.type(n.inputs[0]).shape.elements(); };
  rules.in_place = {{0, 0}};
  rules.accumulates = true;
  return rules;
}

OpRules sum_parts() {
  OpRules rules = sum_squares();
  rules.flops = [](const Graph& g, const Node& n) { return g.type(n.inputs[0]).shape.elements(); };
  return rules;
}

// Sums two rows at most, whose width only the unit knows: its work is not counted.
OpRules row_partials() {
  OpRules rules;
  rules.infer = [](const Graph&, const Node& n) {
    const auto& unit = std::get<UnitAttributes>(n.attributes);
    return std::vector<Type>{{DType::kF64, Shape{unit.parts, 2}, Placement::kPartial}};
  };
  return rules;
}

OpRules spatial_average() {
  OpRules rules;
  rules.flops = [](const Graph& g, const Node& n) { return g.type(n.inputs[0]).shape.elements(); };
  return rules;
}

}  // namespace memwall::ops
