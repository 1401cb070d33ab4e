#include "runtime/passes/shard.h"

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
  layout.parameters = many && s.zero_stage >= 3;
  return layout;
}

namespace {

Category category_of(SlotKind kind) {
  switch (kind) {
    case SlotKind::kParameter: return Category::kParameters;
    case SlotKind::kMaster:
    case SlotKind::kMoment1:
    case SlotKind::kMoment2: return Category::kOptimizerState;
    case SlotKind::kGradient: return Category::kGradients;
    case SlotKind::kScalars:
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
    slots.add(SlotKind::kScalars, DType::kF64, Shape{kScalarCount});
    slots.add(SlotKind::kLossSum, DType::kF64, Shape{1});
  }
  slots.add(SlotKind::kTokens, DType::kI32, Shape{model.batch(), model.time()});
  if (settings.train || settings.evaluate) {
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
    if (kind == SlotKind::kGradient && !slot.sharded) placement = Placement::kPartial;
    if (kind == SlotKind::kLossSum) placement = Placement::kPartial;
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

ValueId ParameterSharding::unit_buffer(const Scope& scope, int64_t unit) {
  const auto [entry, fresh] = buffers_.try_emplace(unit, kNoValue);
  if (fresh) {
    const ValueId parameters = state(scope, SlotKind::kParameter, unit);
    const Scope at{graph_, plan_.units[static_cast<size_t>(unit)].name, scope.phase, scope.block};
    if (layout_.parameters) {
      entry->second = gather(at, "gather", parameters, unit);
    } else {
      UnitAttributes a;
      a.unit = unit;
      entry->second = at.emit("replicate", Op::kReplicate, a, {parameters});
    }
  }
  return entry->second;
}

ValueId ParameterSharding::accumulator(const Scope& scope, const Node& gather) {
  if (settings_.micro_steps == 1 || layout_.gradients) return kNoValue;
  return state(scope, SlotKind::kGradient, std::get<UnitAttributes>(gather.attributes).unit);
}

void ParameterSharding::gradient(const Scope& scope, const Node& gather_node, ValueId cotangent,
                                 bool last) {
  const int64_t unit = std::get<UnitAttributes>(gather_node.attributes).unit;
  const Scope at{graph_, plan_.units[static_cast<size_t>(unit)].name, scope.phase, scope.block};
  const DType wire = graph_.type(gather_node.outputs[0]).dtype;
  const bool accumulating = settings_.micro_steps > 1;
  if (settings_.ranks == 1 || (accumulating && !layout_.gradients && !last)) {
    output(cotangent, SlotKind::kGradient, unit);
    return;
  }
  const auto converted = [&](ValueId v, DType dtype, std::vector<ValueId> place) {
    Type type = graph_.type(v);
    if (type.dtype == dtype) return v;
    type.dtype = dtype;
    std::vector<ValueId> inputs{v};
    inputs.insert(inputs.end(), place.begin(), place.end());
    return at.emit("convert", Op::kCopy, NoAttributes{}, std::move(inputs), type);
  };
  Type shard_type = graph_.type(cotangent);
  shard_type.dtype = wire;
  shard_type.shape = Shape{plan_.units[static_cast<size_t>(unit)].shard(settings_.ranks)};
  shard_type.placement = Placement::kShard;
  UnitAttributes a;
  a.unit = unit;
  a.parts = settings_.ranks;
  ValueId shard =
      at.emit("scatter", Op::kReduceScatter, a, {converted(cotangent, wire, {})}, shard_type);
  const DType held = plan_.slots[static_cast<size_t>(slot_index(SlotKind::kGradient, unit))].dtype;
  if (layout_.gradients && accumulating) {
    Node add;
    add.op = Op::kCopy;
    add.attributes = NoAttributes{};
    add.name = at.path("accumulate");
    add.phase = at.phase;
    add.block = at.block;
    add.inputs = {shard};
    add.addends = {state(at, SlotKind::kGradient, unit)};
    add.addend_skipped_first = true;
    Type type = shard_type;
    type.dtype = held;
    const NodeId id = graph_.add(std::move(add), {type});
    shard = graph_.nodes[static_cast<size_t>(id)].outputs[0];
  } else if (settings_.zero_stage == 0) {
    const ValueId whole = gather(at, "gather_gradient", shard, unit);
    output(converted(whole, held, {}), SlotKind::kGradient, unit);
    return;
  } else if (!layout_.gradients && held != wire) {
    // In the place of the accumulator, which nobody reads any more: not of the slot's old contents,
    // which each addition has overwritten.
    Type share = shard_type;
    share.dtype = held;
    const ValueId place = at.emit("share", Op::kShardView, NoAttributes{}, {cotangent}, share);
    shard = converted(shard, held, {place});
  }
  output(shard, SlotKind::kGradient, unit);
}

}  // namespace memwall
