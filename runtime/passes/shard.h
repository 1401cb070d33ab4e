// ZeRO as the placement of one gather: which slots a stage keeps whole, how a unit's parameters
// enter a graph, and where its gradient goes.
#pragma once

#include <map>
#include <vector>

#include "runtime/graph/graph.h"
#include "runtime/passes/compile.h"
#include "runtime/plan/plan.h"

namespace memwall {

// What a stage shards.
struct ShardLayout {
  bool parameters = false, moments = false, gradients = false;
};
ShardLayout shard_layout(const CompileSettings& settings);

// Appends the slots that the settings' programs need and places them; sets persistent_bytes.
void declare_slots(const Model& model, const CompileSettings& settings, Plan& plan);

// The parameters and gradients of one graph.
class ParameterSharding {
 public:
  ParameterSharding(Graph& graph, const Plan& plan, const CompileSettings& settings);

  // The contents of a slot; one leaf a slot and graph.
  ValueId state(const Scope& scope, SlotKind kind, int64_t unit = -1);
  // This rank's share of a slot that may be whole.
  ValueId share(const Scope& scope, SlotKind kind, int64_t unit);
  int64_t slot_index(SlotKind kind, int64_t unit = -1) const;
  void output(ValueId value, SlotKind kind, int64_t unit = -1);

  // The whole flat buffer of a unit.
  ValueId unit_buffer(const Scope& scope, int64_t unit);
  // Hooks of vjp. `last`: of the micro-steps that one step accumulates.
  ValueId accumulator(const Scope& scope, const Node& gather);
  void gradient(const Scope& scope, const Node& gather, ValueId cotangent, bool last);

  ValueId gather(const Scope& scope, const std::string& name, ValueId shard, int64_t unit);

 private:
  Graph& graph_;
  const Plan& plan_;
  const CompileSettings& settings_;
  ShardLayout layout_;
  std::map<int64_t, ValueId> states_, shares_, buffers_;
};

}  // namespace memwall
