// The graph's verifier refuses broken graphs; dead code goes, live code stays.
#include <gtest/gtest.h>

#include <functional>

#include "runtime/graph/ops/op_rules.h"
#include "runtime/graph/rewrite.h"
#include "runtime/model/gpt2.h"
#include "runtime/passes/evict.h"
#include "runtime/passes/fuse_attention.h"
#include "runtime/passes/vjp.h"

namespace memwall {
namespace {

GptSpec small_spec() {
  GptSpec spec;
  spec.layers = 2;
  spec.hidden = 32;
  spec.heads = 2;
  spec.context = spec.time = 16;
  spec.vocabulary = 61;
  spec.batch = 2;
  return spec;
}

// Forward and backward of a small GPT whose parameters are gathered from shards of two ranks.
Graph training_graph(int64_t alignment = kUnitAlignment) {
  Graph graph;
  const GptSpec spec = small_spec();
  const Gpt2 model(spec);
  const std::vector<Unit> units = model.units(2, alignment);
  const Scope root{graph, "", Phase::kForward, 0};
  const auto leaf = [&](const Scope& scope, int64_t slot, const Type& type) {
    return scope.emit("leaf", Op::kState, StateAttributes{slot}, {}, type);
  };
  ModelInputs in;
  in.units = units;
  in.tokens = leaf(root, 100, {DType::kI32, {2, 16}, Placement::kBatchSplit});
  in.targets = leaf(root, 101, {DType::kI32, {2, 16}, Placement::kBatchSplit});
  std::vector<ValueId> buffers(units.size(), kNoValue);
  in.unit_buffer = [&](const Scope& scope, int64_t unit) {
    ValueId& buffer = buffers[static_cast<size_t>(unit)];
    if (buffer == kNoValue) {
      const int64_t padded = units[static_cast<size_t>(unit)].padded;
      const ValueId shard = leaf(scope, unit, {DType::kF32, {padded / 2}, Placement::kShard});
      buffer = scope.emit("gather", Op::kAllGather, UnitAttributes{unit, 2}, {shard},
                          {DType::kF32, {padded}, Placement::kReplicated});
    }
    return buffer;
  };
  const ValueId loss = model.loss_sum(graph, in, 1);
  const ValueId seed = leaf(root, 102, {DType::kF64, {1}, Placement::kReplicated});
  const Differentiated step = vjp(graph, loss, seed, {});
  for (const ParameterGradient& gradient : step.gradients) {
    const Node& gather = graph.producer(gradient.buffer);
    graph.outputs.push_back({gradient.cotangent, std::get<UnitAttributes>(gather.attributes).unit});
  }
  graph.outputs.push_back({step.loss, 103});
  return graph;
}

constexpr int kAlphaField = 13;  // of GemmAttributes

// What stands for attention's chunked node where it is fused.
Op node_op(const Node& node) {
  return node.phase == Phase::kForward ? Op::kAttention : Op::kAttentionGrad;
}

int64_t count(const Graph& graph, Op op) {
  int64_t n = 0;
  for (const Node& node : graph.nodes) n += node.op == op;
  return n;
}

TEST(Graph, TheHeadsForwardIsDeadAfterVjp) {
  const Graph graph = training_graph();
  EXPECT_NO_THROW(verify_graph(graph));
  // Two attentions and the head, forward and backward; the head's backward does both.
  EXPECT_EQ(count(graph, Op::kChunked), 6);
  const Graph live = without_dead_code(graph);
  EXPECT_NO_THROW(verify_graph(live));
  EXPECT_EQ(count(live, Op::kChunked), 5);
  for (const Node& node : live.nodes) EXPECT_NE(node.name, "head/loss");
}

TEST(Graph, ParametersLieWhereTheLayoutSaysSo) {
  constexpr int64_t kAlignment = 320;
  const Graph graph = training_graph(kAlignment);
  EXPECT_NO_THROW(verify_graph(graph));
  int64_t seen = 0;
  for (const Unit& unit : Gpt2(small_spec()).units(2, kAlignment)) {
    EXPECT_EQ(unit.padded % (2 * kAlignment), 0) << unit.name;
    for (const Segment& s : unit.segments) {
      EXPECT_EQ(s.offset % kAlignment, 0) << s.name;
      for (const Node& node : graph.nodes) {
        if (node.op != Op::kView || !node.name.ends_with("/" + s.name)) continue;
        EXPECT_EQ(std::get<ViewAttributes>(node.attributes).offset, s.offset) << s.name;
        ++seen;
      }
    }
  }
  EXPECT_GT(seen, 0);
}

TEST(Graph, BodiesAreSharedBetweenBlocks) {
  const Graph live = without_dead_code(training_graph());
  std::vector<const Graph*> backward;
  for (const Node& node : live.nodes) {
    if (node.op == Op::kChunked && node.name.ends_with("attention/grad")) {
      backward.push_back(node.body.get());
    }
  }
  ASSERT_EQ(backward.size(), 2u);
  // The forward bodies are made one a block; equal ones may differ in address, never in size.
  EXPECT_EQ(backward[0]->nodes.size(), backward[1]->nodes.size());
}

TEST(Graph, EvictionGathersAgainOnceARegion) {
  const Graph before = without_dead_code(training_graph());
  const Graph after = evict(before, is_gathered_parameter);
  EXPECT_NO_THROW(verify_graph(after));
  // embedding: lookup and head; two blocks: forward and backward; final norm: once.
  EXPECT_EQ(count(before, Op::kAllGather), 4);
  EXPECT_EQ(count(after, Op::kAllGather), 2 + 2 * 2 + 1);
  for (const Node& node : after.nodes) {
    for (ValueId v : node.inputs) {
      if (!is_gathered_parameter(after, v) || is_alias(node.op)) continue;
      EXPECT_EQ(region_of(after, after.producer(v)), region_of(after, node)) << node.name;
    }
  }
}

// Each mutant breaks one rule.
void expect_refused(const std::function<void(Graph&)>& mutate, const char* what) {
  Graph graph = training_graph();
  mutate(graph);
  EXPECT_THROW(verify_graph(graph), InternalError) << what;
}

Node& first(Graph& graph, Op op) {
  for (Node& node : graph.nodes) {
    if (node.op == op) return node;
  }
  throw InternalError("no such node");
}

TEST(GraphMutants, AreRefused) {
  expect_refused([](Graph& g) { first(g, Op::kGelu).inputs[0] = first(g, Op::kGelu).outputs[0]; },
                 "reads itself");
  expect_refused(
      [](Graph& g) { first(g, Op::kGelu).inputs[0] = static_cast<ValueId>(g.values.size()); },
      "reads nothing");
  expect_refused(
      [](Graph& g) { g.values[static_cast<size_t>(first(g, Op::kGelu).outputs[0])].node = 0; },
      "defined twice");
  expect_refused(
      [](Graph& g) {
        g.values[static_cast<size_t>(first(g, Op::kGelu).outputs[0])].type.dtype = DType::kI32;
      },
      "wrong dtype");
  expect_refused(
      [](Graph& g) {
        g.values[static_cast<size_t>(first(g, Op::kLayerNorm).outputs[1])].type.shape = Shape{3};
      },
      "wrong shape");
  expect_refused(
      [](Graph& g) {
        std::get<ViewAttributes>(first(g, Op::kView).attributes).offset += int64_t{1} << 40;
      },
      "view outside");
  expect_refused([](Graph& g) { first(g, Op::kConcat).inputs.pop_back(); }, "concat with a gap");
  expect_refused([](Graph& g) { first(g, Op::kChunked).periods[0] = 3; }, "period");
  expect_refused([](Graph& g) { first(g, Op::kChunked).periods.pop_back(); }, "periods missing");
  expect_refused([](Graph& g) { first(g, Op::kChunked).inputs.pop_back(); }, "operand missing");
  expect_refused(
      [](Graph& g) {
        const ValueId shard = first(g, Op::kAllGather).inputs[0];
        g.values[static_cast<size_t>(shard)].type.placement = Placement::kReplicated;
      },
      "gathers what is whole");
  expect_refused(
      [](Graph& g) {
        Node& norm = first(g, Op::kLayerNorm);
        g.values[static_cast<size_t>(norm.inputs[0])].type.placement = Placement::kPartial;
      },
      "reads a partial sum");
  expect_refused([](Graph& g) { g.outputs[0].value = -5; }, "no such output");
  expect_refused([](Graph& g) { ++std::get<GemmAttributes>(first(g, Op::kGemm).attributes).m; },
                 "a product of more rows than there are");
  expect_refused([](Graph& g) { --std::get<RowsAttributes>(first(g, Op::kBias).attributes).rows; },
                 "a bias of fewer rows than there are");
  expect_refused(
      [](Graph& g) {
        const ValueId second = first(g, Op::kAdd).inputs[1];
        g.values[static_cast<size_t>(second)].type.dtype = DType::kF64;
      },
      "a sum of two dtypes");
}

// Names of what is no stored activation (a view, a gradient, a gather) would keep nothing.
TEST(Checkpointing, RefusesPatternsThatKeepNothing) {
  const Graph graph = training_graph();
  const auto policy = [](const char* pattern) {
    return CheckpointPolicy{Checkpointing::kSelective, {pattern}};
  };
  for (const char* pattern : {"block0/attn/q", "*/attention/grad", "block0/gather", "head/*"}) {
    EXPECT_THROW(evicted_by(policy(pattern), graph), InputError) << pattern;
  }
  for (const char* pattern : {"block0/attn/qkv", "*/attention", "block1/*"}) {
    EXPECT_NO_THROW(evicted_by(policy(pattern), graph)) << pattern;
  }
}

// Each attribute of each inner step, one by one.
TEST(FusedAttention, StandsForThatBodyAlone) {
  const Graph live = without_dead_code(training_graph());
  ASSERT_EQ(count(fuse_attention(live, Backend::kCpu), Op::kAttention), 2);
  ASSERT_EQ(count(fuse_attention(live, Backend::kCpu), Op::kAttentionGrad), 2);
  const auto expect_left = [&](size_t node, const std::string& what,
                               const std::function<void(Node&)>& change) {
    Graph other = live;
    const Op op = node_op(live.nodes[node]);
    change(other.nodes[node]);
    EXPECT_EQ(count(fuse_attention(other, Backend::kCpu), op), 1) << what;
  };
  for (size_t n = 0; n < live.nodes.size(); ++n) {
    const Node& node = live.nodes[n];
    if (node.op != Op::kChunked || !node.name.starts_with("block1/attn/attention")) continue;
    for (size_t k = 0; k < node.periods.size(); ++k) {
      expect_left(n, node.name + " period " + std::to_string(k),
                  [&](Node& changed) { changed.periods[k] = 2; });
    }
    for (size_t i = 0; i < node.body->nodes.size(); ++i) {
      for (int field = 0; field < 20; ++field) {
        int seen = 0;
        Graph body = *node.body;
        std::visit(
            [&](auto& attributes) {
              attributes.fields([&](const char*, auto& value) {
                if (seen++ == field) value += 1;
              });
            },
            body.nodes[i].attributes);
        const Node& inner = node.body->nodes[i];
        if (field >= seen || inner.op == Op::kOperand) break;
        // Another scale is another attention: forward it is fused, with a backward that differs.
        const bool forward_scale =
            inner.name == "scores" && field == kAlphaField && node.phase == Phase::kForward;
        if (forward_scale) continue;
        expect_left(n, node.name + '/' + inner.name + " field " + std::to_string(field),
                    [&](Node& changed) { changed.body = std::make_shared<const Graph>(body); });
      }
    }
  }
}

TEST(OpRules, RunOnDualNumbersWhereAKernelDoes) {
  for (size_t op = 0; op < kOpCount; ++op) {
    const auto which = static_cast<Op>(op);
    EXPECT_EQ(rules_of(which).tangent == TangentRule::kDual, runs_on_duals(which))
        << op_name(which);
  }
}

}  // namespace
}  // namespace memwall
