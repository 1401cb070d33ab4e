#include "optim/adamw.h"

namespace memwall {

AdamWState emit_adamw(const Scope& scope, int64_t unit, int64_t parts,
                      const AdamWSettings& settings, const AdamWState& state, ValueId gradient,
                      ValueId scalars) {
  UnitAttributes a;
  a.unit = unit;
  a.parts = parts;
  a.beta1 = settings.beta1;
  a.beta2 = settings.beta2;
  a.epsilon = settings.epsilon;
  a.weight_decay = settings.weight_decay;
  const NodeId id =
      scope.emit_all("adamw", Op::kAdamW, a,
                     {state.parameters, state.moment1, state.moment2, gradient, scalars}, {});
  const Node& node = scope.graph.nodes[static_cast<size_t>(id)];
  return {node.outputs[0], node.outputs[1], node.outputs[2]};
}

ValueId emit_step_control(const Scope& scope, ValueId reduced, ValueId scalars, int64_t norm_parts,
                          double loss_factor, double grad_clip) {
  StepControlAttributes a;
  a.norm_parts = norm_parts;
  a.loss_factor = loss_factor;
  a.grad_clip = grad_clip;
  return scope.emit("step_control", Op::kStepControl, a, {reduced, scalars});
}

}  // namespace memwall
