// Optimizers and global-norm clipping as graph nodes. An optimizer is what it keeps beside the
// parameters and the one op of its update, on a unit's flat buffers or a rank's shards of them.
#pragma once

#include <variant>
#include <vector>

#include "runtime/graph/graph.h"

namespace memwall {

// Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
};

// Sutskever et al. 2013 as torch.optim.SGD has it: g += weight_decay p; m = momentum m + g;
// p -= rate m. Without momentum no m is kept.
struct SgdSettings {
  double momentum = 0.0, weight_decay = 0.0;
};

using OptimizerSettings = std::variant<AdamWSettings, SgdSettings>;

// How many buffers of the parameters' size an optimizer keeps, in the master's precision.
int64_t moment_count(const OptimizerSettings& settings);

struct OptimizerState {
  ValueId parameters = kNoValue;
  std::vector<ValueId> moments;
};

// One step of a unit, whole (parts = 1) or this rank's shard (parts = ranks). `scalars`:
// f64[kScalarCount] as step control left them.
OptimizerState emit_update(const Scope& scope, int64_t unit, int64_t parts,
                           const OptimizerSettings& settings, const OptimizerState& state,
                           ValueId gradient, ValueId scalars);

// Reads f64[2 + norm_parts] {loss sum, stop requests, partial sums of squares} and completes the
// scalars: loss, norm, what gradients are multiplied with, whether the step is skipped.
// loss = loss sum * loss_factor; grad_clip: largest norm, 0 for none.
ValueId emit_step_control(const Scope& scope, ValueId reduced, ValueId scalars, int64_t norm_parts,
                          double loss_factor, double grad_clip);

}  // namespace memwall
