// Compiling a training step: model -> graph -> passes -> plan.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "optim/optimizer.h"
#include "runtime/cost/collective_choice.h"
#include "runtime/graph/model.h"
#include "runtime/passes/evict.h"
#include "runtime/passes/select.h"
#include "runtime/plan/plan.h"

namespace memwall {

struct CompileSettings {
  int64_t ranks = 1;
  int64_t zero_stage = 0;      // 0 to 3 (Rajbhandari et al. 2020)
  int64_t micro_steps = 1;     // accumulated a step
  int64_t prefetch_depth = 0;  // regions that gathers run ahead; transfers in flight
  CheckpointPolicy checkpointing;
  int64_t init_seed = 0;
  int64_t direction_seed = 0;  // of curvature's random signs
  OptimizerSettings optimizer;
  double grad_clip = 0.0;   // 0: off
  bool train = true;        // programs init, micro, last_micro, update
  bool evaluate = true;     // program evaluate
  bool next_token = false;  // program next_token
  bool curvature = false;   // programs hessian_signs and hessian_vector; not together with train
  std::string target = kCpuTarget;
  bool fuses_attention = false;  // where the target has a kernel for it: passes/fuse_attention.h
  std::optional<ProductEpilogues> epilogues;  // without: the target's (passes/select.h)
  Fabric fabric;
  CollectiveChoice collectives;
};

// The plan of all ranks, verified.
Plan compile(const Model& model, const CompileSettings& settings);

// Throws BudgetError with the largest consumers where the arena exceeds `budget_bytes` (0: none).
void check_budget(const Plan& plan, int64_t budget_bytes);

}  // namespace memwall
