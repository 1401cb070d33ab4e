#include "optim/optimizer.h"

#include <algorithm>
#include <string>

namespace memwall {
namespace {

struct Update {
  std::string name;
  Op op;
  UnitAttributes attributes;
};

Update update_of(const AdamWSettings& settings) {
  UnitAttributes a;
  a.beta1 = settings.beta1;
  a.beta2 = settings.beta2;
  a.epsilon = settings.epsilon;
  a.weight_decay = settings.weight_decay;
  return {"adamw", Op::kAdamW, a};
}

Update update_of(const SgdSettings& settings) {
  UnitAttributes a;
  a.momentum = settings.momentum;
  a.weight_decay = settings.weight_decay;
  return {"sgd", Op::kSgd, a};
}

Update update_of(const AdaHessianSettings& settings) {
  UnitAttributes a;
  a.beta1 = settings.beta1;
  a.beta2 = settings.beta2;
  a.epsilon = settings.epsilon;
  a.weight_decay = settings.weight_decay;
  a.hessian_power = settings.hessian_power;
  a.averaging_block = settings.averaging_block;
  return {"adahessian", Op::kAdaHessian, a};
}

int64_t moments_of(const AdamWSettings&) {
  return 2;
}
int64_t moments_of(const SgdSettings& settings) {
  return settings.momentum == 0.0 ? 0 : 1;
}
int64_t moments_of(const AdaHessianSettings&) {
  return 2;
}

}  // namespace

int64_t moment_count(const OptimizerSettings& settings) {
  return std::visit([](const auto& s) { return moments_of(s); }, settings);
}

OptimizerState emit_update(const Scope& scope, int64_t unit, int64_t parts,
                           const OptimizerSettings& settings, const OptimizerState& state,
                           ValueId gradient, ValueId scalars, ValueId curvature) {
  Update update = std::visit([](const auto& s) { return update_of(s); }, settings);
  update.attributes.unit = unit;
  update.attributes.parts = parts;
  std::vector<ValueId> inputs = {state.parameters};
  inputs.insert(inputs.end(), state.moments.begin(), state.moments.end());
  inputs.push_back(gradient);
  if (curvature != kNoValue) {
    check(update.op == Op::kAdaHessian, "only ADAHESSIAN reads curvature", scope.path(update.name));
    inputs.push_back(curvature);
  }
  inputs.push_back(scalars);
  const NodeId id = scope.emit_all(update.name, update.op, update.attributes, inputs, {});
  const std::vector<ValueId>& outputs = scope.graph.nodes[static_cast<size_t>(id)].outputs;
  OptimizerState after{outputs[0], state.moments};  // a moment that is read only stays what it was
  std::copy(outputs.begin() + 1, outputs.end(), after.moments.begin());
  return after;
}

ValueId emit_step_control(const Scope& scope, ValueId reduced, ValueId scalars, int64_t norm_parts,
                          double loss_factor, double grad_clip, int64_t trace_parts) {
  StepControlAttributes a;
  a.norm_parts = norm_parts;
  a.trace_parts = trace_parts;
  a.loss_factor = loss_factor;
  a.grad_clip = grad_clip;
  return scope.emit("step_control", Op::kStepControl, a, {reduced, scalars});
}

}  // namespace memwall
