// ZeRO as the placement of one gather: which slots a stage keeps whole, how a unit's parameters
// enter a graph, and where its gradient goes.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/graph/graph.h"
#include "runtime/passes/compile.h"
#include "runtime/plan/plan.h"

namespace memwall {

// What a stage shards.
struct ShardLayout {
  bool parameters = false, moments = false, gradients = false;
  bool curvature = false;  // sums of z (H z)
};
ShardLayout shard_layout(const CompileSettings& settings);

// How often a step adds to its sums of z (H z): micro-steps times probes.
int64_t curvature_terms(const CompileSettings& settings);
// Elements that curvature is averaged over (base/averaging.h); 1 where sums are what is wanted.
int64_t averaging_block(const CompileSettings& settings);

// Appends the slots that the settings' programs need and places them; sets persistent_bytes.
void declare_slots(const Model& model, const CompileSettings& settings, Plan& plan);

enum class Direction : uint8_t {
  kNone,
  kSigns,   // random signs, generated where they are needed (Yao et al. 2020)
  kVector,  // the vector slots, sharded and gathered like the parameters
};

// What a micro-step's program leaves behind.
struct MicroStep {
  bool gradient = true;                    // loss and gradients
  Direction direction = Direction::kNone;  // of H z
  bool training = true;                    // dropout applies
  // Whether it is the last that adds to the step's gradients; and to its curvature.
  bool last = true, last_curvature = true;
  bool first_probe = true;  // overwrites the curvature in the first micro-step
};

// The parameters, gradients and curvature of one graph.
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
  // From now on a unit's buffer has a tangent, of that direction.
  void set_direction(Direction direction) { direction_ = direction; }
  const std::map<ValueId, ValueId>& directions() const { return directions_; }
  // The accumulator of vjp's hooks.
  ValueId accumulator(const Scope& scope, const Node& gather);
  // What becomes of a unit's complete gradient, and of its H z.
  void gradient(const Scope& scope, int64_t unit, ValueId cotangent, const MicroStep& step);
  void curvature(const Scope& scope, int64_t unit, ValueId product, const MicroStep& step);
  // After the last unit: the trace's partial sums.
  void finish_curvature();

  ValueId gather(const Scope& scope, const std::string& name, ValueId shard, int64_t unit);
  // One sum of a unit's z (H z) for each shard that is here, added to `before`.
  ValueId trace_partials(const Scope& scope, ValueId sums, int64_t unit, ValueId before);
  // Averages of |sums|, compressed; rows that cross the ends of shards are completed by exchange.
  ValueId averaged(const Scope& scope, ValueId sums, int64_t unit);

  // The graph was rewritten: `map` gives its states' new values. Unit buffers are done with.
  void remap(const std::function<ValueId(ValueId)>& map);

 private:
  // How a slot sums what micro-steps contribute.
  struct Sum {
    SlotKind kind;
    bool accumulates, sharded, last, skips_first;
  };
  ValueId reduced(const Scope& at, int64_t unit, ValueId whole, const Sum& sum);
  ValueId converted(const Scope& at, ValueId v, DType dtype, std::vector<ValueId> place = {});
  ValueId added_up(const Scope& at, const std::string& name, Node node, const Type& type,
                   int64_t unit, const Sum& sum);
  UnitAttributes attributes(int64_t unit, int64_t parts) const;
  const Unit& unit_of(int64_t unit) const { return plan_.units[static_cast<size_t>(unit)]; }

  Graph& graph_;
  const Plan& plan_;
  const CompileSettings& settings_;
  ShardLayout layout_;
  Direction direction_ = Direction::kNone;
  std::map<int64_t, ValueId> states_, shares_, buffers_;
  std::map<ValueId, ValueId> directions_;  // by unit buffer
  ValueId trace_ = kNoValue;
};

}  // namespace memwall
