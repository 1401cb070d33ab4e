// Initialisation and the update.
#include "runtime/base/workspace.h"
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {

OpRules initialize() {
  return {};
}

OpRules sum_squares() {
  OpRules rules;
  rules.infer = [](const Graph&, const Node& n) {
    const auto& unit = std::get<UnitAttributes>(n.attributes);
    return std::vector<Type>{{DType::kF64, Shape{unit.parts}, Placement::kPartial}};
  };
  rules.flops = [](const Graph& g, const Node& n) {
    return 2 * g.type(n.inputs[0]).shape.elements();
  };
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    const int64_t parts = std::get<UnitAttributes>(n.attributes).parts;
    return sum_workspace_bytes(g.type(n.inputs[0]).shape.elements(), parts);
  };
  rules.accumulates = true;
  return rules;
}

OpRules step_control() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    return std::vector<Type>{g.type(n.inputs[1])};
  };
  rules.in_place = {{0, 1}};
  return rules;
}

namespace {

// Parameters and moments, each as it was: all inputs but gradient and scalars.
std::vector<Type> updated_types(const Graph& g, const Node& n) {
  std::vector<Type> types;
  for (size_t i = 0; i + 2 < n.inputs.size(); ++i) types.push_back(g.type(n.inputs[i]));
  return types;
}

}  // namespace

OpRules adamw() {
  OpRules rules;
  rules.infer = updated_types;
  rules.flops = [](const Graph& g, const Node& n) {
    return 14 * g.type(n.inputs[0]).shape.elements();
  };
  rules.in_place = {{0, 0}, {1, 1}, {2, 2}};
  return rules;
}

// With curvature all three of parameters, m and s are written; without, s is read only.
OpRules adahessian() {
  constexpr size_t kInputsWithCurvature = 6;
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    std::vector<Type> types{g.type(n.inputs[0]), g.type(n.inputs[1])};
    if (n.inputs.size() == kInputsWithCurvature) types.push_back(g.type(n.inputs[2]));
    return types;
  };
  rules.flops = [](const Graph& g, const Node& n) {
    const int64_t an_element = n.inputs.size() == kInputsWithCurvature ? 16 : 11;
    return an_element * g.type(n.inputs[0]).shape.elements();
  };
  rules.in_place = {{0, 0}, {1, 1}, {2, 2}};
  return rules;
}

OpRules sgd() {
  OpRules rules;
  rules.infer = updated_types;
  rules.flops = [](const Graph& g, const Node& n) {
    return 7 * g.type(n.inputs[0]).shape.elements();
  };
  rules.in_place = {{0, 0}, {1, 1}};
  return rules;
}

}  // namespace memwall::ops
