#include "runtime/passes/shard.h"

#include <variant>

#include "runtime/base/averaging.h"
#include "runtime/base/math.h"
#include "runtime/base/scalars.h"
#include "runtime/passes/place.h"

namespace memwall {

ShardLayout shard_layout(const CompileSettings& s) {
  const bool many = s.ranks > 1;
  ShardLayout layout;
  layout.moments = many && s.zero_stage >= 1;
  // Stage 1 accumulates whole gradients, but with one micro-step there is nothing to accumulate.
  layout.gradients = many && (s.zero_stage >= 2 || (s.zero_stage == 1 && s.micro_steps == 1));
  layout.curvature = many && (s.zero_stage >= 2 || (s.zero_stage == 1 && curvature_terms(s) == 1));
  layout.parameters = many && s.zero_stage >= 3;
  return layout;
}

int64_t curvature_terms(const CompileSettings& settings) {
  constexpr int64_t kSeveral = 2;
  const auto* adahessian = std::get_if<AdaHessianSettings>(&settings.optimizer);
  if (settings.curvature) return kSeveral;
  return adahessian == nullptr ? 0 : settings.micro_steps * adahessian->probes;
}

int64_t averaging_block(const CompileSettings& settings) {
  const auto* adahessian = std::get_if<AdaHessianSettings>(&settings.optimizer);
  return adahessian == nullptr ? 1 : adahessian->averaging_block;
}

namespace {

Category category_of(SlotKind kind) {
  switch (kind) {
    case SlotKind::kParameter: return Category::kParameters;
    case SlotKind::kMaster:
    case SlotKind::kMoment1:
    case SlotKind::kMoment2: return Category::kOptimizerState;
    case SlotKind::kGradient:
    case SlotKind::kCurvature: return Category::kGradients;
    case SlotKind::kScalars:
    case SlotKind::kTraceSum:
    case SlotKind::kLossSum: return Category::kWorkspace;
    default: return Category::kActivations;
  }
}

class SlotDeclarer {
 public:
  explicit SlotDeclarer(Plan& plan) : plan_(plan) {}
  void add(SlotKind kind, DType dtype, Shape shape, int64_t unit = -1, bool sharded = false) {
    Slot slot;
    slot.kind = kind;
    slot.unit = unit;
    slot.sharded = sharded;
    slot.dtype = dtype;
    slot.shape = shape;
    slot.bytes = shape.elements() * size_of(dtype);
    slot.offset = round_up(end_, kArenaAlignment);
    slot.value = static_cast<int32_t>(plan_.values.size());
    end_ = slot.offset + slot.bytes;
    std::string name(name_of(kind));
    if (unit >= 0) name = plan_.units[static_cast<size_t>(unit)].name + "/" + name;
    plan_.values.push_back({name, category_of(kind), slot.bytes});
    plan_.slots.push_back(slot);
    plan_.persistent_bytes = round_up(end_, kArenaAlignment);
  }

 private:
  Plan& plan_;
  int64_t end_ = 0;
};

}  // namespace

namespace {

// Sums where several terms are added up, else averages.
void declare_curvature(const CompileSettings& settings, DType exact, SlotDeclarer& slots,
                       const std::vector<Unit>& units) {
  const ShardLayout layout = shard_layout(settings);
  const int64_t terms = curvature_terms(settings);
  if (terms == 0) return;
  const bool sharded = terms > 1 ? layout.curvature : layout.moments;
  const int64_t parts = sharded ? settings.ranks : 1;
  for (size_t u = 0; u < units.size(); ++u) {
    const int64_t elements = terms > 1
                                 ? units[u].shard(parts)
                                 : averaged_elements(units[u], parts, averaging_block(settings));
    slots.add(SlotKind::kCurvature, exact, Shape{elements}, static_cast<int64_t>(u), sharded);
  }
  if (terms == 1) {
    slots.add(SlotKind::kTraceSum, DType::kF64, Shape{layout.moments ? 1 : settings.ranks});
  }
}

}  // namespace

void declare_slots(const Model& model, const CompileSettings& settings, Plan& plan) {
  const ShardLayout layout = shard_layout(settings);
  const DType exact = accumulator_of(model.dtype());
  SlotDeclarer slots(plan);
  const auto each_unit = [&](SlotKind kind, DType dtype, bool sharded) {
    for (size_t u = 0; u < plan.units.size(); ++u) {
      const Unit& unit = plan.units[u];
      slots.add(kind, dtype, Shape{sharded ? unit.shard(settings.ranks) : unit.padded},
                static_cast<int64_t>(u), sharded);
    }
  };
  each_unit(SlotKind::kParameter, model.dtype(), layout.parameters);
  if (settings.train) {
    if (exact != model.dtype()) each_unit(SlotKind::kMaster, exact, layout.moments);
    for (int64_t m = 0; m < moment_count(settings.optimizer); ++m) {
      each_unit(kMomentSlots[static_cast<size_t>(m)], exact, layout.moments);
    }
    each_unit(SlotKind::kGradient, settings.micro_steps > 1 ? exact : model.dtype(),
              layout.gradients);
    declare_curvature(settings, exact, slots, plan.units);
    slots.add(SlotKind::kScalars, DType::kF64, Shape{kScalarCount});
    slots.add(SlotKind::kLossSum, DType::kF64, Shape{1});
  }
  if (settings.curvature) {
    each_unit(SlotKind::kVector, model.dtype(), layout.parameters);
    each_unit(SlotKind::kGradient, exact, layout.gradients);
    declare_curvature(settings, exact, slots, plan.units);
    slots.add(SlotKind::kScalars, DType::kF64, Shape{kScalarCount});
    slots.add(SlotKind::kLossSum, DType::kF64, Shape{1});
  }
  slots.add(SlotKind::kTokens, DType::kI32, Shape{model.batch(), model.time()});
  if (settings.train || settings.evaluate || settings.curvature) {
    slots.add(SlotKind::kTargets, DType::kI32, Shape{model.batch(), model.time()});
  }
  if (settings.train && model.has_dropout()) {
    slots.add(SlotKind::kSampleIndex, DType::kI64, Shape{model.batch()});
  }
  if (settings.evaluate) slots.add(SlotKind::kSampleLoss, DType::kF64, Shape{model.batch()});
  if (settings.next_token) {
    slots.add(SlotKind::kPosition, DType::kI32, Shape{1});
    slots.add(SlotKind::kLogits, model.dtype(), Shape{model.vocabulary()});
  }
}

ParameterSharding::ParameterSharding(Graph& graph, const Plan& plan,
                                     const CompileSettings& settings)
    : graph_(graph), plan_(plan), settings_(settings), layout_(shard_layout(settings)) {}

int64_t ParameterSharding::slot_index(SlotKind kind, int64_t unit) const {
  const Slot* slot = plan_.find_slot(kind, unit);
  check(slot != nullptr, "the plan has no such slot", std::string(name_of(kind)));
  return slot - plan_.slots.data();
}

ValueId ParameterSharding::state(const Scope& scope, SlotKind kind, int64_t unit) {
  const int64_t index = slot_index(kind, unit);
  const auto [entry, fresh] = states_.try_emplace(index, kNoValue);
  if (fresh) {
    const Slot& slot = plan_.slots[static_cast<size_t>(index)];
    Placement placement = Placement::kReplicated;
    if (slot.sharded) placement = Placement::kShard;
    // Curvature is summed over ranks by the time the update reads it.
    const bool sums = kind == SlotKind::kGradient ||
                      (kind == SlotKind::kCurvature && scope.phase != Phase::kUpdate);
    if (sums && !slot.sharded) placement = Placement::kPartial;
    if (kind == SlotKind::kLossSum || kind == SlotKind::kTraceSum) placement = Placement::kPartial;
    if (kind == SlotKind::kTokens || kind == SlotKind::kTargets || kind == SlotKind::kSampleIndex) {
      placement = Placement::kBatchSplit;
    }
    const Scope leaf{graph_, "", scope.phase, scope.block};
    entry->second = leaf.emit(plan_.values[static_cast<size_t>(slot.value)].name, Op::kState,
                              StateAttributes{index}, {}, Type{slot.dtype, slot.shape, placement});
  }
  return entry->second;
}

ValueId ParameterSharding::share(const Scope& scope, SlotKind kind, int64_t unit) {
  const ValueId whole = state(scope, kind, unit);
  if (!layout_.moments || graph_.type(whole).placement == Placement::kShard) return whole;
  const auto [entry, fresh] = shares_.try_emplace(slot_index(kind, unit), kNoValue);
  if (fresh) {
    Type type = graph_.type(whole);
    type.shape = Shape{plan_.units[static_cast<size_t>(unit)].shard(settings_.ranks)};
    type.placement = Placement::kShard;
    entry->second = scope.emit("share", Op::kShardView, NoAttributes{}, {whole}, type);
  }
  return entry->second;
}

void ParameterSharding::output(ValueId value, SlotKind kind, int64_t unit) {
  graph_.outputs.push_back({value, slot_index(kind, unit)});
}

ValueId ParameterSharding::gather(const Scope& scope, const std::string& name, ValueId shard,
                                  int64_t unit) {
  Type type = graph_.type(shard);
  type.shape = Shape{plan_.units[static_cast<size_t>(unit)].padded};
  type.placement = Placement::kReplicated;
  UnitAttributes a;
  a.unit = unit;
  a.parts = settings_.ranks;
  return scope.emit(name, Op::kAllGather, a, {shard}, type);
}

UnitAttributes ParameterSharding::attributes(int64_t unit, int64_t parts) const {
  UnitAttributes a;
  a.unit = unit;
  a.parts = parts;
  return a;
}

ValueId ParameterSharding::unit_buffer(const Scope& scope, int64_t unit) {
  const auto [entry, fresh] = buffers_.try_emplace(unit, kNoValue);
  if (!fresh) return entry->second;
  const Scope at{graph_, unit_of(unit).name, scope.phase, scope.block};
  const auto enter = [&](SlotKind kind, const std::string& name) {
    const ValueId held = state(scope, kind, unit);
    if (layout_.parameters) return gather(at, "gather" + name, held, unit);
    return at.emit("replicate" + name, Op::kReplicate, attributes(unit, 1), {held});
  };
  entry->second = enter(SlotKind::kParameter, "");
  if (direction_ == Direction::kVector) {
    directions_[entry->second] = enter(SlotKind::kVector, "_vector");
  } else if (direction_ == Direction::kSigns) {
    UnitAttributes a = attributes(unit, 1);
    a.seed = settings_.direction_seed;
    const ValueId scalars = state(scope, SlotKind::kScalars);
    const Type type = graph_.type(entry->second);
    directions_[entry->second] = at.emit("signs", Op::kSign, a, {scalars}, type);
  }
  return entry->second;
}

ValueId ParameterSharding::accumulator(const Scope& scope, const Node& gather) {
  if ((settings_.micro_steps == 1 && !settings_.curvature) || layout_.gradients) return kNoValue;
  return state(scope, SlotKind::kGradient, std::get<UnitAttributes>(gather.attributes).unit);
}

ValueId ParameterSharding::converted(const Scope& at, ValueId v, DType dtype,
                                     std::vector<ValueId> place) {
  Type type = graph_.type(v);
  if (type.dtype == dtype) return v;
  type.dtype = dtype;
  std::vector<ValueId> inputs{v};
  inputs.insert(inputs.end(), place.begin(), place.end());
  return at.emit("convert", Op::kCopy, NoAttributes{}, std::move(inputs), type);
}

// The result of `node`, added to the slot's contents, which the first term overwrites.
ValueId ParameterSharding::added_up(const Scope& at, const std::string& name, Node node,
                                    const Type& type, int64_t unit, const Sum& sum) {
  node.name = at.path(name);
  node.phase = at.phase;
  node.block = at.block;
  node.addends = {state(at, sum.kind, unit)};
  node.addend_skipped_first = sum.skips_first;
  const NodeId id = graph_.add(std::move(node), {type});
  return graph_.nodes[static_cast<size_t>(id)].outputs[0];
}

// The sum over ranks of `whole`, or `whole` where that waits for the last term. Whole accumulators
// are part of `whole` already.
ValueId ParameterSharding::reduced(const Scope& at, int64_t unit, ValueId whole, const Sum& sum) {
  if (settings_.ranks == 1 || (sum.accumulates && !sum.sharded && !sum.last)) return whole;
  const Slot& parameters = plan_.slots[static_cast<size_t>(slot_index(SlotKind::kParameter, unit))];
  const DType wire = parameters.dtype;
  const DType held = sum.accumulates ? accumulator_of(wire) : wire;
  Type type = graph_.type(whole);
  type.dtype = wire;
  type.shape = Shape{unit_of(unit).shard(settings_.ranks)};
  type.placement = Placement::kShard;
  const ValueId shard = at.emit("scatter", Op::kReduceScatter, attributes(unit, settings_.ranks),
                                {converted(at, whole, wire)}, type);
  type.dtype = held;
  if (sum.sharded && sum.accumulates) {
    Node add;
    add.op = Op::kCopy;
    add.attributes = NoAttributes{};
    add.inputs = {shard};
    return added_up(at, "accumulate", std::move(add), type, unit, sum);
  }
  if (settings_.zero_stage == 0) {
    return converted(at, gather(at, "gather_gradient", shard, unit), held);
  }
  if (sum.sharded || held == wire) return shard;
  // In the place of the accumulator, which nobody reads any more: not of the slot's old contents,
  // which each addition has overwritten.
  const ValueId place = at.emit("share", Op::kShardView, NoAttributes{}, {whole}, type);
  return converted(at, shard, held, {place});
}

void ParameterSharding::gradient(const Scope& scope, int64_t unit, ValueId cotangent,
                                 const MicroStep& step) {
  const Scope at{graph_, unit_of(unit).name, scope.phase, scope.block};
  const Sum sum{SlotKind::kGradient, settings_.micro_steps > 1 || settings_.curvature,
                layout_.gradients, step.last, true};
  output(reduced(at, unit, cotangent, sum), SlotKind::kGradient, unit);
}

void ParameterSharding::curvature(const Scope& scope, int64_t unit, ValueId product,
                                  const MicroStep& step) {
  const Scope at{graph_, unit_of(unit).name + "/curvature", scope.phase, scope.block};
  const Sum sum{SlotKind::kCurvature, curvature_terms(settings_) > 1, layout_.curvature,
                step.last_curvature, step.first_probe};
  const bool adds_whole = sum.accumulates && !sum.sharded;
  Type type = graph_.type(product);
  if (adds_whole) type.dtype = accumulator_of(type.dtype);
  Node node;
  node.op = Op::kCopy;
  node.attributes = NoAttributes{};
  node.inputs = {product};
  if (step.direction == Direction::kSigns) {  // z (H z)
    node.op = Op::kSignProduct;
    UnitAttributes a = attributes(unit, 1);
    a.seed = settings_.direction_seed;
    node.attributes = a;
    node.inputs.push_back(state(at, SlotKind::kScalars));
  }
  ValueId whole = product;
  if (adds_whole) {
    whole = added_up(at, "sum", std::move(node), type, unit, sum);
  } else if (node.op == Op::kSignProduct) {
    whole = at.emit("signed", node.op, node.attributes, node.inputs, type);
  }
  ValueId sums = reduced(at, unit, whole, sum);
  if (sum.accumulates) {
    output(sums, SlotKind::kCurvature, unit);
    return;
  }
  if (settings_.ranks == 1) {  // the sum over ranks already
    type = graph_.type(sums);
    type.placement = Placement::kReplicated;
    sums = at.emit("all", Op::kView, ViewAttributes{}, {sums}, type);
  }
  trace_ = trace_partials(at, sums, unit, trace_);
  output(averaged(at, sums, unit), SlotKind::kCurvature, unit);
}

void ParameterSharding::finish_curvature() {
  if (trace_ != kNoValue) output(trace_, SlotKind::kTraceSum);
}

ValueId ParameterSharding::trace_partials(const Scope& scope, ValueId sums, int64_t unit,
                                          ValueId before) {
  const int64_t parts = layout_.moments ? 1 : settings_.ranks;
  Node node;
  node.op = Op::kSumParts;
  node.attributes = attributes(unit, parts);
  node.name = scope.path("trace");
  node.phase = scope.phase;
  node.block = scope.block;
  node.inputs = {sums};
  if (before != kNoValue) node.addends = {before};
  const NodeId id = graph_.add(std::move(node), {{DType::kF64, {parts}, Placement::kPartial}});
  return graph_.nodes[static_cast<size_t>(id)].outputs[0];
}

ValueId ParameterSharding::averaged(const Scope& scope, ValueId sums, int64_t unit) {
  const int64_t block = averaging_block(settings_);
  const int64_t parts = layout_.moments ? settings_.ranks : 1;
  UnitAttributes a = attributes(unit, parts);
  a.averaging_block = block;
  std::vector<ValueId> inputs{sums};
  if (block == kWholeRows && parts > 1) {
    const Type shares{DType::kF64, Shape{2 * parts}, Placement::kPartial};
    const ValueId rows = scope.emit("row_partials", Op::kRowPartials, a, inputs, shares);
    inputs.push_back(scope.emit("row_sums", Op::kReduceScatter, a, {rows},
                                Type{DType::kF64, Shape{2}, Placement::kShard}));
  }
  Type type = graph_.type(sums);
  type.dtype = accumulator_of(type.dtype);
  type.shape = Shape{averaged_elements(unit_of(unit), parts, block)};
  return scope.emit("average", Op::kSpatialAverage, a, inputs, type);
}

void ParameterSharding::remap(const std::function<ValueId(ValueId)>& map) {
  for (auto& entry : states_) entry.second = map(entry.second);
  shares_.clear();
  buffers_.clear();
  directions_.clear();
}

}  // namespace memwall
