#include "runtime/passes/compile.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/base/scalars.h"
#include "runtime/graph/rewrite.h"
#include "runtime/passes/evict.h"
#include "runtime/passes/place.h"
#include "runtime/passes/schedule.h"
#include "runtime/passes/select.h"
#include "runtime/passes/shard.h"
#include "runtime/passes/totals.h"
#include "runtime/passes/vjp.h"
#include "runtime/plan/verify.h"

namespace memwall {
namespace {

class Compiler {
 public:
  Compiler(const Model& model, const CompileSettings& settings)
      : model_(model), settings_(settings) {}

  Plan run() {
    plan_.ranks = settings_.ranks;
    plan_.micro_steps = settings_.micro_steps;
    plan_.zero_stage = settings_.zero_stage;
    plan_.target = settings_.target;
    plan_.transport = settings_.transport;
    plan_.units = model_.units(settings_.ranks);
    for (const Unit& unit : plan_.units) plan_.parameters += unit.parameters;
    declare_slots(model_, settings_, plan_);
    plan_.arena_bytes = plan_.persistent_bytes;
    if (settings_.train) {
      add("init", initialise(), {});
      const std::vector<SlotKind> fed = {SlotKind::kTokens, SlotKind::kTargets,
                                         SlotKind::kSampleIndex, SlotKind::kScalars};
      if (settings_.micro_steps > 1) add("micro", micro_step(false), fed);
      add("last_micro", micro_step(true), fed);
      add("update", update(), {});
      if (plan_.find_slot(SlotKind::kMaster, 0) != nullptr) add("restore", restore(), {});
    }
    if (settings_.evaluate) {
      add("evaluate", evaluate(), {SlotKind::kTokens, SlotKind::kTargets});
    }
    if (settings_.next_token) {
      add("next_token", next_token(), {SlotKind::kTokens, SlotKind::kPosition});
    }
    total(plan_, model_, lower_bound_);
    verify_plan(plan_);
    return std::move(plan_);
  }

 private:
  // The passes, in order; the graph is verified after each.
  void add(const std::string& name, Graph graph, const std::vector<SlotKind>& fed) {
    const auto verified = [](Graph g) {
      verify_graph(g);
      return g;
    };
    graph = verified(std::move(graph));
    graph = verified(without_dead_code(graph));
    const bool trains = name == "micro" || name == "last_micro";
    graph = verified(evict(graph, trains ? evicted_by(settings_.checkpointing, graph)
                                         : Evicted(is_gathered_parameter)));
    graph = verified(select(graph, settings_.target));
    graph = verified(schedule(graph, settings_.prefetch_depth));
    PlaceRequest request;
    request.name = name;
    request.prefetch_depth = settings_.prefetch_depth;
    for (SlotKind kind : fed) {
      if (const Slot* slot = plan_.find_slot(kind)) {
        request.host_slots.push_back(static_cast<int32_t>(slot - plan_.slots.data()));
      }
    }
    plan_.programs.push_back(place(std::move(graph), request, plan_, lower_bound_));
  }

  ModelInputs inputs(ParameterSharding& sharding, const Scope& scope, bool training) const {
    ModelInputs in;
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

  Graph micro_step(bool last) const {
    Graph graph;
    ParameterSharding sharding(graph, plan_, settings_);
    const Scope scope{graph, "", Phase::kForward, 0};
    const ModelInputs in = inputs(sharding, scope, true);
    ValueId loss = model_.loss_sum(graph, in, 1);
    const Scope head{graph, "head", Phase::kBackward, graph.last_block};
    const ValueId seed = scope.emit(
        "seed", Op::kView, ViewAttributes{static_cast<int64_t>(Scalar::kSeed)},
        {sharding.state(scope, SlotKind::kScalars)}, {DType::kF64, {1}, Placement::kReplicated});
    VjpHooks hooks;
    hooks.accumulator = [&](const Scope& at, const Node& gather) {
      return sharding.accumulator(at, gather);
    };
    hooks.parameter = [&](const Scope& at, const Node& gather, ValueId cotangent) {
      sharding.gradient(at, gather, cotangent, last);
    };
    loss = vjp(graph, loss, seed, hooks);
    if (settings_.micro_steps > 1) {
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
      loss = graph.nodes[static_cast<size_t>(id)].outputs[0];
    }
    sharding.output(loss, SlotKind::kLossSum);
    return graph;
  }

  Graph initialise() const {
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

  // A unit's masters, or this rank's share of them, in the parameters' type and place.
  static ValueId rounded(ParameterSharding& sharding, const Scope& scope, ValueId masters,
                         int64_t unit) {
    const ValueId place = sharding.share(scope, SlotKind::kParameter, unit);
    return scope.emit("round", Op::kCopy, NoAttributes{}, {masters, place},
                      scope.graph.type(place));
  }

  // Fresh parameters as their slot holds them: gathered at stages 1 and 2.
  ValueId whole_where_held(ParameterSharding& sharding, const Scope& scope, ValueId fresh,
                           int64_t unit) const {
    const ShardLayout layout = shard_layout(settings_);
    if (!layout.moments || layout.parameters) return fresh;
    return sharding.gather(scope, "gather_updated", fresh, unit);
  }

  // Parameters from masters that a checkpoint has filled.
  Graph restore() const {
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

  // {loss sum, stop requests, norm partials}, summed over ranks, and what follows from them.
  ValueId step_control(Graph& graph, ParameterSharding& sharding) const {
    const Scope scope{graph, "update", Phase::kUpdate, 0};
    const bool many = settings_.ranks > 1;
    const bool whole = many && !shard_layout(settings_).moments;  // stage 0 has every partial
    const int64_t parts = whole ? settings_.ranks : 1;
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
    const Type one{DType::kF64, {1}, Placement::kPartial};
    const ValueId scalars = sharding.state(scope, SlotKind::kScalars);
    const ValueId stop =
        scope.emit("stop_request", Op::kView,
                   ViewAttributes{static_cast<int64_t>(Scalar::kStopRequest)}, {scalars}, one);
    const auto joined = [&](const std::string& name, std::vector<ValueId> inputs, int64_t count) {
      return scope.emit(name, Op::kConcat, NoAttributes{}, std::move(inputs),
                        Type{DType::kF64, Shape{count}, Placement::kPartial});
    };
    std::vector<ValueId> sums{sharding.state(scope, SlotKind::kLossSum), stop};
    if (!whole) sums.push_back(norm);
    ValueId reduced = joined("sums", sums, static_cast<int64_t>(sums.size()));
    if (many) {
      reduced = scope.emit("all_reduce", Op::kAllReduce, NoAttributes{}, {reduced});
    }
    if (whole) reduced = joined("partials", {reduced, norm}, 2 + parts);
    const double tokens = static_cast<double>(model_.batch() * model_.time()) *
                          static_cast<double>(settings_.ranks * settings_.micro_steps);
    return emit_step_control(scope, reduced, scalars, parts, 1.0 / tokens, settings_.grad_clip);
  }

  Graph update() const {
    Graph graph;
    ParameterSharding sharding(graph, plan_, settings_);
    const ValueId scalars = step_control(graph, sharding);
    sharding.output(scalars, SlotKind::kScalars);
    const ShardLayout layout = shard_layout(settings_);
    const int64_t parts = layout.moments ? settings_.ranks : 1;
    for (size_t u = 0; u < plan_.units.size(); ++u) {
      const auto unit = static_cast<int64_t>(u);
      const Scope scope{graph, plan_.units[u].name, Phase::kUpdate, static_cast<int32_t>(u)};
      const bool master = plan_.find_slot(SlotKind::kMaster, unit) != nullptr;
      const SlotKind exact = master ? SlotKind::kMaster : SlotKind::kParameter;
      OptimizerState before{sharding.share(scope, exact, unit), {}};
      const auto moments = static_cast<size_t>(moment_count(settings_.optimizer));
      for (size_t m = 0; m < moments; ++m) {
        before.moments.push_back(sharding.state(scope, kMomentSlots[m], unit));
      }
      const OptimizerState after =
          emit_update(scope, unit, parts, settings_.optimizer, before,
                      sharding.share(scope, SlotKind::kGradient, unit), scalars);
      for (size_t m = 0; m < moments; ++m) {
        sharding.output(after.moments[m], kMomentSlots[m], unit);
      }
      ValueId fresh = after.parameters;
      if (master) {
        sharding.output(fresh, SlotKind::kMaster, unit);
        fresh = rounded(sharding, scope, fresh, unit);
      }
      fresh = whole_where_held(sharding, scope, fresh, unit);
      sharding.output(fresh, SlotKind::kParameter, unit);
    }
    return graph;
  }

  Graph evaluate() const {
    Graph graph;
    ParameterSharding sharding(graph, plan_, settings_);
    const Scope scope{graph, "", Phase::kForward, 0};
    const ModelInputs in = inputs(sharding, scope, false);
    sharding.output(model_.loss_sum(graph, in, model_.batch()), SlotKind::kSampleLoss);
    return graph;
  }

  Graph next_token() const {
    Graph graph;
    ParameterSharding sharding(graph, plan_, settings_);
    const Scope scope{graph, "", Phase::kForward, 0};
    const ModelInputs in = inputs(sharding, scope, false);
    const ValueId position = sharding.state(scope, SlotKind::kPosition);
    sharding.output(model_.next_token_logits(graph, in, position), SlotKind::kLogits);
    return graph;
  }

  const Model& model_;
  const CompileSettings settings_;
  Plan plan_;
  int64_t lower_bound_ = 0;
};

}  // namespace

Plan compile(const Model& model, const CompileSettings& settings) {
  return Compiler(model, settings).run();
}

void check_budget(const Plan& plan, int64_t budget_bytes) {
  const int64_t needed = planned_bytes(plan);
  if (budget_bytes == 0 || needed <= budget_bytes) return;
  std::vector<size_t> order(kCategoryCount);
  for (size_t c = 0; c < kCategoryCount; ++c) order[c] = c;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return plan.totals.at_peak[a] > plan.totals.at_peak[b]; });
  std::string consumers;
  for (size_t k = 0; k < 4; ++k) {
    consumers +=
        fmt::format("{}{} {:.1f} MiB", k ? ", " : "", name_of(static_cast<Category>(order[k])),
                    static_cast<double>(plan.totals.at_peak[order[k]]) / (1 << 20));
  }
  const int64_t window = window_bytes_per_rank(plan.ranks, plan.transport);
  if (window > 0) {
    consumers += fmt::format(", and the window of shared memory {:.1f} MiB",
                             static_cast<double>(window) / (1 << 20));
  }
  throw BudgetError(
      fmt::format("the plan needs {:.1f} MiB a rank, {:.1f} MiB more than the budget; the largest "
                  "consumers are {}",
                  static_cast<double>(needed) / (1 << 20),
                  static_cast<double>(needed - budget_bytes) / (1 << 20), consumers),
      "memory.budget");
}

}  // namespace memwall
