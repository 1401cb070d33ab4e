// The graphs of a plan's programs, before the passes that place them.
#pragma once

#include "runtime/graph/graph.h"
#include "runtime/graph/model.h"
#include "runtime/passes/compile.h"
#include "runtime/passes/shard.h"
#include "runtime/plan/plan.h"

namespace memwall {

// `plan` has its units and slots (declare_slots). All three must outlive it.
class ProgramGraphs {
 public:
  ProgramGraphs(const Model& model, const CompileSettings& settings, const Plan& plan)
      : model_(model), settings_(settings), plan_(plan) {}

  // First values of parameters, masters and moments.
  Graph initialise() const;
  // Parameters from masters that a checkpoint has filled.
  Graph restore() const;
  // Forward and backward: vjp, then tangents where a direction is given.
  Graph micro_step(const MicroStep& step) const;
  // Scalars of all ranks, then the optimizer's step of each unit. `curvature`: with fresh sums of
  // z (H z).
  Graph update(bool curvature) const;
  Graph evaluate() const;
  Graph next_token() const;

 private:
  ModelInputs inputs(ParameterSharding& sharding, const Scope& scope, bool training) const;
  ValueId accumulate_loss(Graph& graph, ParameterSharding& sharding, ValueId loss) const;
  ValueId whole_where_held(ParameterSharding& sharding, const Scope& scope, ValueId fresh,
                           int64_t unit) const;
  ValueId norm_partials(Graph& graph, ParameterSharding& sharding, const Scope& scope) const;
  ValueId trace_partials(ParameterSharding& sharding, const Scope& scope) const;
  ValueId step_control(Graph& graph, ParameterSharding& sharding, bool curvature) const;
  ValueId averaged_curvature(ParameterSharding& sharding, const Scope& scope, int64_t unit) const;
  void update_unit(Graph& graph, ParameterSharding& sharding, int64_t unit, ValueId scalars,
                   bool curvature) const;

  const Model& model_;
  const CompileSettings& settings_;
  const Plan& plan_;
};

}  // namespace memwall
