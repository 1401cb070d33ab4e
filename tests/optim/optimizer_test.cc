// What an optimizer is in the graph: its moments, its update's operands and attributes.
#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include "runtime/base/averaging.h"
#include "runtime/base/scalars.h"

namespace memwall {
namespace {

// The operands of an update of one unit, 128 elements a rank.
struct Operands {
  Graph graph;
  Scope scope{graph, "unit", Phase::kUpdate, 0};
  OptimizerState state;
  ValueId gradient, curvature, scalars;

  explicit Operands(int64_t moments) {
    state.parameters = leaf({DType::kF32, {128}, Placement::kShard});
    for (int64_t m = 0; m < moments; ++m) {
      state.moments.push_back(leaf({DType::kF32, {128}, Placement::kShard}));
    }
    gradient = leaf({DType::kF16, {128}, Placement::kShard});
    curvature = leaf({DType::kF32, {4}, Placement::kShard});
    scalars = leaf({DType::kF64, {kScalarCount}, Placement::kReplicated});
  }
  ValueId leaf(const Type& type) {
    const StateAttributes slot{static_cast<int64_t>(graph.values.size())};
    return scope.emit("leaf", Op::kState, slot, {}, type);
  }
};

TEST(Optimizer, AdaHessianHasAdamsMemory) {
  EXPECT_EQ(moment_count(AdaHessianSettings{}), moment_count(AdamWSettings{}));
}

TEST(Optimizer, AdaHessianDefaultsAreThoseOfItsReference) {
  const AdaHessianSettings s;
  EXPECT_EQ(s.beta1, 0.9);
  EXPECT_EQ(s.beta2, 0.999);
  EXPECT_EQ(s.epsilon, 1e-4);
  EXPECT_EQ(s.weight_decay, 0.0);
  EXPECT_EQ(s.hessian_power, 1.0);
}

TEST(Optimizer, AdaHessianWithCurvatureWritesBothMoments) {
  Operands o(2);
  const AdaHessianSettings settings{.beta1 = 0.8,
                                    .beta2 = 0.95,
                                    .epsilon = 1e-3,
                                    .weight_decay = 0.2,
                                    .hessian_power = 0.7,
                                    .averaging_block = kWholeRows};
  const OptimizerState after =
      emit_update(o.scope, 3, 2, settings, o.state, o.gradient, o.scalars, o.curvature);
  const Node& node = o.graph.producer(after.parameters);
  EXPECT_EQ(node.op, Op::kAdaHessian);
  EXPECT_EQ(node.inputs,
            (std::vector<ValueId>{o.state.parameters, o.state.moments[0], o.state.moments[1],
                                  o.gradient, o.curvature, o.scalars}));
  EXPECT_EQ(node.outputs,
            (std::vector<ValueId>{after.parameters, after.moments[0], after.moments[1]}));
  UnitAttributes expected;
  expected.unit = 3, expected.parts = 2;
  expected.beta1 = 0.8, expected.beta2 = 0.95, expected.epsilon = 1e-3;
  expected.weight_decay = 0.2, expected.hessian_power = 0.7;
  expected.averaging_block = kWholeRows;
  EXPECT_EQ(std::get<UnitAttributes>(node.attributes), expected);
  EXPECT_EQ(o.graph.type(after.parameters), o.graph.type(o.state.parameters));
  EXPECT_NO_THROW(verify_graph(o.graph));
}

TEST(Optimizer, AdaHessianBetweenMeasurementsReadsItsSecondMoment) {
  Operands o(2);
  const OptimizerState after =
      emit_update(o.scope, 0, 2, AdaHessianSettings{}, o.state, o.gradient, o.scalars);
  const Node& node = o.graph.producer(after.parameters);
  EXPECT_EQ(node.inputs, (std::vector<ValueId>{o.state.parameters, o.state.moments[0],
                                               o.state.moments[1], o.gradient, o.scalars}));
  EXPECT_EQ(node.outputs, (std::vector<ValueId>{after.parameters, after.moments[0]}));
  EXPECT_EQ(after.moments[1], o.state.moments[1]);
  EXPECT_NO_THROW(verify_graph(o.graph));
}

TEST(Optimizer, OthersReadNoCurvature) {
  Operands o(2);
  EXPECT_THROW(
      emit_update(o.scope, 0, 2, AdamWSettings{}, o.state, o.gradient, o.scalars, o.curvature),
      InternalError);
}

TEST(Optimizer, StepControlReadsTracesBehindNorms) {
  Operands o(0);
  const ValueId reduced = o.leaf({DType::kF64, {2 + 3 + 3}, Placement::kReplicated});
  const ValueId scalars = emit_step_control(o.scope, reduced, o.scalars, 3, 0.5, 1.0, 3);
  const auto& a = std::get<StepControlAttributes>(o.graph.producer(scalars).attributes);
  EXPECT_EQ(a, (StepControlAttributes{
                   .norm_parts = 3, .trace_parts = 3, .loss_factor = 0.5, .grad_clip = 1.0}));
}

}  // namespace
}  // namespace memwall
