#include "runtime/passes/programs.h"

#include "runtime/base/scalars.h"
#include "runtime/graph/rewrite.h"
#include "runtime/passes/dual.h"
#include "runtime/passes/vjp.h"

namespace memwall {
namespace {

// A unit's masters, or this rank's share of them, in the parameters' type and place.
ValueId rounded(ParameterSharding& sharding, const Scope& scope, ValueId masters, int64_t unit) {
  const ValueId place = sharding.share(scope, SlotKind::kParameter, unit);
  return scope.emit("round", Op::kCopy, NoAttributes{}, {masters, place}, scope.graph.type(place));
}

}  // namespace

ModelInputs ProgramGraphs::inputs(ParameterSharding& sharding, const Scope& scope,
                                  bool training) const {
  ModelInputs in;
  in.units = plan_.units;
  in.unit_buffer = [&sharding](const Scope& at, int64_t unit) {
    return sharding.unit_buffer(at, unit);
  };
  in.tokens = sharding.state(scope, SlotKind::kTokens);
  if (plan_.find_slot(SlotKind::kTargets)) in.targets = sharding.state(scope, SlotKind::kTargets);
  in.training = training;
  if (training && model_.has_dropout()) {
    in.sample_index = sharding.state(scope, SlotKind::kSampleIndex);
  }
  return in;
}

// Accumulated over micro-steps.
ValueId ProgramGraphs::accumulate_loss(Graph& graph, ParameterSharding& sharding,
                                       ValueId loss) const {
  const Scope head{graph, "head", Phase::kBackward, graph.last_block};
  Node add;
  add.op = Op::kCopy;
  add.attributes = NoAttributes{};
  add.name = "head/accumulate_loss";
  add.phase = Phase::kBackward;
  add.block = 0;
  add.inputs = {loss};
  add.addends = {sharding.state(head, SlotKind::kLossSum)};
  add.addend_skipped_first = true;
  const NodeId id = graph.add(std::move(add), {graph.type(loss)});
  return graph.nodes[static_cast<size_t>(id)].outputs[0];
}

namespace {

// Rewrites `graph` with what becomes of gradients and curvature, each as soon as it is complete.
void reduce_gradients(Graph& graph, ParameterSharding& sharding,
                      const std::vector<ParameterGradient>& gradients, const MicroStep& step,
                      ValueId& loss) {
  const Graph old = std::move(graph);
  graph = Graph{};
  Rewriter rewriter(old, graph);
  const auto is_state = [&](size_t i) { return old.nodes[i].op == Op::kState; };
  for (size_t i = 0; i < old.nodes.size(); ++i) {
    if (is_state(i)) rewriter.copy(static_cast<NodeId>(i));
  }
  sharding.remap([&](ValueId v) { return rewriter.map(v); });
  for (size_t i = 0; i < old.nodes.size(); ++i) {
    if (!is_state(i)) rewriter.copy(static_cast<NodeId>(i));
    for (const ParameterGradient& g : gradients) {
      const Node& gather = old.producer(g.buffer);
      const auto complete = [&](ValueId v) {
        return v != kNoValue && old.values[static_cast<size_t>(v)].node == static_cast<NodeId>(i);
      };
      const Scope at{graph, "", Phase::kBackward, gather.block};
      const int64_t unit = std::get<UnitAttributes>(gather.attributes).unit;
      if (step.gradient && complete(g.cotangent)) {
        sharding.gradient(at, unit, rewriter.map(g.cotangent), step);
      }
      if (complete(g.tangent)) sharding.curvature(at, unit, rewriter.map(g.tangent), step);
    }
  }
  loss = rewriter.map(loss);
}

}  // namespace

Graph ProgramGraphs::micro_step(const MicroStep& step) const {
  Graph graph;
  ParameterSharding sharding(graph, plan_, settings_);
  sharding.set_direction(step.direction);
  const Scope scope{graph, "", Phase::kForward, 0};
  const ModelInputs in = inputs(sharding, scope, step.training);
  const ValueId loss_sum = model_.loss_sum(graph, in, 1);
  const Scope head{graph, "head", Phase::kBackward, graph.last_block};
  const ValueId seed = head.emit(
      "seed", Op::kView, ViewAttributes{static_cast<int64_t>(Scalar::kSeed)},
      {sharding.state(scope, SlotKind::kScalars)}, {DType::kF64, {1}, Placement::kReplicated});
  VjpHooks hooks;
  hooks.accumulator = [&](const Scope& at, const Node& gather) {
    return step.gradient ? sharding.accumulator(at, gather) : kNoValue;
  };
  auto [loss, gradients] = vjp(graph, loss_sum, seed, hooks);
  if (step.direction != Direction::kNone) {
    WithTangents dualled = dual(graph, sharding.directions());
    graph = std::move(dualled.graph);
    sharding.remap([&](ValueId v) { return dualled.values[static_cast<size_t>(v)]; });
    for (ParameterGradient& g : gradients) {
      g.tangent = dualled.tangents[static_cast<size_t>(g.cotangent)];
      check(g.tangent != kNoValue, "a unit without curvature", graph.producer(g.buffer).name);
      g.buffer = dualled.values[static_cast<size_t>(g.buffer)];
      g.cotangent = dualled.values[static_cast<size_t>(g.cotangent)];
    }
    loss = dualled.values[static_cast<size_t>(loss)];
  }
  reduce_gradients(graph, sharding, gradients, step, loss);
  sharding.finish_curvature();
  if (!step.gradient) return graph;
  if (settings_.micro_steps > 1 || settings_.curvature) {
    loss = accumulate_loss(graph, sharding, loss);
  }
  sharding.output(loss, SlotKind::kLossSum);
  return graph;
}

Graph ProgramGraphs::initialise() const {
  Graph graph;
  ParameterSharding sharding(graph, plan_, settings_);
  for (size_t u = 0; u < plan_.units.size(); ++u) {
    const auto unit = static_cast<int64_t>(u);
    const Scope scope{graph, plan_.units[u].name, Phase::kUpdate, static_cast<int32_t>(u)};
    const auto fill = [&](SlotKind kind, Op op, const std::string& name) {
      const Slot* slot = plan_.find_slot(kind, unit);
      if (slot == nullptr) return;
      UnitAttributes a;
      a.unit = unit;
      a.parts = slot->sharded ? settings_.ranks : 1;
      a.seed = settings_.init_seed;
      const Type type{slot->dtype, slot->shape,
                      slot->sharded ? Placement::kShard : Placement::kReplicated};
      const Attributes attributes =
          op == Op::kInitialize ? Attributes(a) : Attributes(FillAttributes{});
      sharding.output(scope.emit(name, op, attributes, {}, type), kind, unit);
    };
    fill(SlotKind::kParameter, Op::kInitialize, "initialize");
    fill(SlotKind::kMaster, Op::kInitialize, "initialize_master");
    fill(SlotKind::kMoment1, Op::kFill, "zero_moment1");
    fill(SlotKind::kMoment2, Op::kFill, "zero_moment2");
  }
  return graph;
}

// Fresh parameters as their slot holds them: gathered at stages 1 and 2.
ValueId ProgramGraphs::whole_where_held(ParameterSharding& sharding, const Scope& scope,
                                        ValueId fresh, int64_t unit) const {
  const ShardLayout layout = shard_layout(settings_);
  if (!layout.moments || layout.parameters) return fresh;
  return sharding.gather(scope, "gather_updated", fresh, unit);
}

// Parameters from masters that a checkpoint has filled.
Graph ProgramGraphs::restore() const {
  Graph graph;
  ParameterSharding sharding(graph, plan_, settings_);
  for (size_t u = 0; u < plan_.units.size(); ++u) {
    const auto unit = static_cast<int64_t>(u);
    const Scope scope{graph, plan_.units[u].name, Phase::kUpdate, static_cast<int32_t>(u)};
    const ValueId masters = sharding.state(scope, SlotKind::kMaster, unit);
    const ValueId fresh = rounded(sharding, scope, masters, unit);
    sharding.output(whole_where_held(sharding, scope, fresh, unit), SlotKind::kParameter, unit);
  }
  return graph;
}

// One sum of squares for each shard that is here, added over units.
ValueId ProgramGraphs::norm_partials(Graph& graph, ParameterSharding& sharding,
                                     const Scope& scope) const {
  const int64_t parts = shard_layout(settings_).moments ? 1 : settings_.ranks;
  ValueId norm = kNoValue;
  for (size_t u = 0; u < plan_.units.size(); ++u) {
    const auto unit = static_cast<int64_t>(u);
    Node node;
    node.op = Op::kSumSquares;
    UnitAttributes a;
    a.unit = unit;
    a.parts = parts;
    node.attributes = a;
    node.name = plan_.units[u].name + "/sum_squares";
    node.phase = Phase::kUpdate;
    node.block = static_cast<int32_t>(u);
    node.inputs = {sharding.share(scope, SlotKind::kGradient, unit)};
    if (norm != kNoValue) node.addends = {norm};
    const NodeId id = graph.add(std::move(node), {{DType::kF64, {parts}, Placement::kPartial}});
    norm = graph.nodes[static_cast<size_t>(id)].outputs[0];
  }
  return norm;
}

// Of curvature: from the micro-step where it was averaged there, else of the sums.
ValueId ProgramGraphs::trace_partials(ParameterSharding& sharding, const Scope& scope) const {
  if (plan_.find_slot(SlotKind::kTraceSum) != nullptr) {
    return sharding.state(scope, SlotKind::kTraceSum);
  }
  ValueId trace = kNoValue;
  for (size_t u = 0; u < plan_.units.size(); ++u) {
    const auto unit = static_cast<int64_t>(u);
    const Scope at{scope.graph, plan_.units[u].name + "/curvature", Phase::kUpdate,
                   static_cast<int32_t>(u)};
    trace =
        sharding.trace_partials(at, sharding.share(scope, SlotKind::kCurvature, unit), unit, trace);
  }
  return trace;
}

// {loss sum, stop requests, norm partials, trace partials}, summed over ranks, and what follows
// from them. Partials of all shards, where they are here, need no sum.
ValueId ProgramGraphs::step_control(Graph& graph, ParameterSharding& sharding,
                                    bool curvature) const {
  const Scope scope{graph, "update", Phase::kUpdate, 0};
  const bool many = settings_.ranks > 1;
  const bool whole = many && !shard_layout(settings_).moments;  // stage 0 has every partial
  const int64_t parts = whole ? settings_.ranks : 1;
  std::vector<ValueId> partials{norm_partials(graph, sharding, scope)};
  if (curvature) partials.push_back(trace_partials(sharding, scope));
  const auto count = static_cast<int64_t>(partials.size());
  const Type one{DType::kF64, {1}, Placement::kPartial};
  const ValueId scalars = sharding.state(scope, SlotKind::kScalars);
  const ValueId stop =
      scope.emit("stop_request", Op::kView,
                 ViewAttributes{static_cast<int64_t>(Scalar::kStopRequest)}, {scalars}, one);
  const auto joined = [&](const std::string& name, std::vector<ValueId> inputs, int64_t elements) {
    return scope.emit(name, Op::kConcat, NoAttributes{}, std::move(inputs),
                      Type{DType::kF64, Shape{elements}, Placement::kPartial});
  };
  std::vector<ValueId> sums{sharding.state(scope, SlotKind::kLossSum), stop};
  if (!whole) sums.insert(sums.end(), partials.begin(), partials.end());
  ValueId reduced = joined("sums", sums, static_cast<int64_t>(sums.size()));
  if (many) {
    reduced = scope.emit("all_reduce", Op::kAllReduce, NoAttributes{}, {reduced});
  }
  if (whole) {
    partials.insert(partials.begin(), reduced);
    reduced = joined("partials", partials, 2 + count * parts);
  }
  const double tokens = static_cast<double>(model_.batch() * model_.time()) *
                        static_cast<double>(settings_.ranks * settings_.micro_steps);
  return emit_step_control(scope, reduced, scalars, parts, 1.0 / tokens, settings_.grad_clip,
                           curvature ? parts : 0);
}

ValueId ProgramGraphs::averaged_curvature(ParameterSharding& sharding, const Scope& scope,
                                          int64_t unit) const {
  if (curvature_terms(settings_) == 1) return sharding.state(scope, SlotKind::kCurvature, unit);
  return sharding.averaged(scope, sharding.share(scope, SlotKind::kCurvature, unit), unit);
}

void ProgramGraphs::update_unit(Graph& graph, ParameterSharding& sharding, int64_t unit,
                                ValueId scalars, bool curvature) const {
  const Scope scope{graph, plan_.units[static_cast<size_t>(unit)].name, Phase::kUpdate,
                    static_cast<int32_t>(unit)};
  const int64_t parts = shard_layout(settings_).moments ? settings_.ranks : 1;
  const bool master = plan_.find_slot(SlotKind::kMaster, unit) != nullptr;
  const SlotKind exact = master ? SlotKind::kMaster : SlotKind::kParameter;
  OptimizerState before{sharding.share(scope, exact, unit), {}};
  const auto moments = static_cast<size_t>(moment_count(settings_.optimizer));
  for (size_t m = 0; m < moments; ++m) {
    before.moments.push_back(sharding.state(scope, kMomentSlots[m], unit));
  }
  const OptimizerState after =
      emit_update(scope, unit, parts, settings_.optimizer, before,
                  sharding.share(scope, SlotKind::kGradient, unit), scalars,
                  curvature ? averaged_curvature(sharding, scope, unit) : kNoValue);
  for (size_t m = 0; m < moments; ++m) {
    if (after.moments[m] != before.moments[m]) {
      sharding.output(after.moments[m], kMomentSlots[m], unit);
    }
  }
  ValueId fresh = after.parameters;
  if (master) {
    sharding.output(fresh, SlotKind::kMaster, unit);
    fresh = rounded(sharding, scope, fresh, unit);
  }
  fresh = whole_where_held(sharding, scope, fresh, unit);
  sharding.output(fresh, SlotKind::kParameter, unit);
}

Graph ProgramGraphs::update(bool curvature) const {
  Graph graph;
  ParameterSharding sharding(graph, plan_, settings_);
  const ValueId scalars = step_control(graph, sharding, curvature);
  sharding.output(scalars, SlotKind::kScalars);
  for (size_t u = 0; u < plan_.units.size(); ++u) {
    update_unit(graph, sharding, static_cast<int64_t>(u), scalars, curvature);
  }
  return graph;
}

Graph ProgramGraphs::evaluate() const {
  Graph graph;
  ParameterSharding sharding(graph, plan_, settings_);
  const Scope scope{graph, "", Phase::kForward, 0};
  const ModelInputs in = inputs(sharding, scope, false);
  sharding.output(model_.loss_sum(graph, in, model_.batch()), SlotKind::kSampleLoss);
  return graph;
}

Graph ProgramGraphs::next_token() const {
  Graph graph;
  ParameterSharding sharding(graph, plan_, settings_);
  const Scope scope{graph, "", Phase::kForward, 0};
  const ModelInputs in = inputs(sharding, scope, false);
  const ValueId position = sharding.state(scope, SlotKind::kPosition);
  sharding.output(model_.next_token_logits(graph, in, position), SlotKind::kLogits);
  return graph;
}

}  // namespace memwall
