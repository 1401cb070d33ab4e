// Cotangents that several uses add to.
#include <gtest/gtest.h>

#include "runtime/graph/ops/gemm.h"
#include "runtime/passes/vjp.h"

namespace memwall::test {
namespace {

constexpr int64_t kSize = 4, kCount = 3;

// loss = sum over chunks x of sum((p + x) + p x), p a captured parameter.
ValueId loss_of(Graph& graph, bool twice) {
  const Type square{DType::kF16, {kSize, kSize}, Placement::kReplicated};
  const Type rows{DType::kF16, {kSize, kSize}, Placement::kBatchSplit};
  Graph body;
  const Scope inner{body, "", Phase::kForward, 0};
  const ValueId p = inner.emit("p", Op::kOperand, StateAttributes{0}, {}, square);
  const ValueId x = inner.emit("x", Op::kOperand, StateAttributes{1}, {}, rows);
  const ValueId plain = inner.emit("plain", Op::kAdd, NoAttributes{}, {p, x});
  const ValueId product =
      inner.emit("product", Op::kGemm, plain_gemm(kSize, kSize, kSize), {p, x}, rows);
  const ValueId both = inner.emit("both", Op::kAdd, NoAttributes{}, {plain, product});
  body.outputs.push_back({inner.emit("sum", Op::kSum, NoAttributes{}, {both}), -1});

  const Scope scope{graph, "", Phase::kForward, 0};
  const ValueId slot = scope.emit("slot", Op::kState, StateAttributes{0}, {}, square);
  const ValueId parameter = scope.emit("w", Op::kReplicate, UnitAttributes{}, {slot});
  const Type chunks{DType::kF16, {kCount, kSize, kSize}, Placement::kBatchSplit};
  const ValueId input = scope.emit("input", Op::kState, StateAttributes{1}, {}, chunks);
  Node node;
  node.op = Op::kChunked;
  node.attributes = ChunkedAttributes{kCount, -1};
  node.name = "chunks";
  node.body = std::make_shared<const Graph>(std::move(body));
  node.inputs = {parameter, twice ? parameter : input};
  node.periods = {kCount, twice ? kCount : 1, kCount};
  const NodeId id = graph.add(std::move(node), {{DType::kF64, {1}, Placement::kPartial}});
  return graph.nodes[static_cast<size_t>(id)].outputs[0];
}

void differentiate(Graph& graph, ValueId loss) {
  const Scope scope{graph, "", Phase::kForward, 0};
  const ValueId seed = scope.emit("seed", Op::kState, StateAttributes{2}, {},
                                  {DType::kF64, {1}, Placement::kReplicated});
  for (const ParameterGradient& g : vjp(graph, loss, seed, VjpHooks{}).gradients) {
    graph.outputs.push_back({g.cotangent, 3});
  }
}

// Whatever sums before a gradient's one rounding does so in the accumulator's type: here the sum's
// pass-through, which comes in FP16, is added to the product's FP32.
TEST(Vjp, AddsUsesOfACapturedParameterInTheAccumulatorsType) {
  Graph graph;
  differentiate(graph, loss_of(graph, false));
  EXPECT_NO_THROW(verify_graph(graph));
  int sums = 0;
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kChunked || node.phase != Phase::kBackward) continue;
    for (const Node& inner : node.body->nodes) {
      if (inner.op != Op::kAdd || inner.phase != Phase::kBackward) continue;
      ++sums;
      for (ValueId v : inner.inputs) EXPECT_EQ(node.body->type(v).dtype, DType::kF32);
    }
  }
  EXPECT_EQ(sums, 1);
}

// Its two cotangents would be two results for one place.
TEST(Vjp, RefusesOneParameterAsTwoOperands) {
  Graph graph;
  const ValueId loss = loss_of(graph, true);
  EXPECT_THROW(differentiate(graph, loss), InternalError);
}

}  // namespace
}  // namespace memwall::test
