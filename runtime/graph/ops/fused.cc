// Ops that a target's selection puts in the place of several (passes/select.h). They have no
// derivative: selection comes after vjp.
#include "runtime/base/workspace.h"
#include "runtime/graph/ops/rules_list.h"

namespace memwall::ops {
namespace {

const RowsAttributes& rows_of(const Node& n) {
  return std::get<RowsAttributes>(n.attributes);
}

int64_t elements(const Node& n) {
  return rows_of(n).batch * rows_of(n).rows * rows_of(n).width;
}

Type row_statistic(const Graph& g, const Node& n) {
  const Type type = like_input(g, n, 0);
  return {accumulator_of(type.dtype), Shape{rows_of(n).batch * rows_of(n).rows}, type.placement};
}

}  // namespace

OpRules bias_gelu() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    return std::vector<Type>{like_input(g, n, 0), like_input(g, n, 0)};
  };
  rules.flops = [](const Graph&, const Node& n) { return 9 * elements(n); };
  rules.in_place = {{0, 0}};
  return rules;
}

OpRules add_layer_norm() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    const Type statistic = row_statistic(g, n);
    return std::vector<Type>{like_input(g, n, 0), like_input(g, n, 0), statistic, statistic};
  };
  rules.flops = [](const Graph&, const Node& n) { return 9 * elements(n); };
  rules.in_place = {{0, 0}, {0, 1}};
  return rules;
}

OpRules gelu_grad_columns() {
  OpRules rules;  // the type of the sums is stated
  rules.flops = [](const Graph&, const Node& n) { return 17 * elements(n); };
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    return block_sums_workspace_bytes(rows_of(n).rows, rows_of(n).width, g.type(n.inputs[0]).dtype);
  };
  rules.in_place = {{1, 0}, {1, 1}};
  rules.accumulates = true;
  return rules;
}

OpRules layer_norm_grads() {
  OpRules rules;
  rules.infer = [](const Graph& g, const Node& n) {
    Type column = like_input(g, n, 0);
    column.shape = Shape{rows_of(n).width};
    return std::vector<Type>{like_input(g, n, 0), column, column};
  };
  rules.flops = [](const Graph&, const Node& n) { return 19 * elements(n); };
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    return block_sums_workspace_bytes(rows_of(n).batch * rows_of(n).rows, 2 * rows_of(n).width,
                                      g.type(n.inputs[0]).dtype);
  };
  rules.in_place = {{0, 0}};
  rules.accumulates = true;
  return rules;
}

}  // namespace memwall::ops
