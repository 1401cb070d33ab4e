// AdamW (Loshchilov and Hutter 2019) and global-norm clipping as graph nodes.
#pragma once

#include <vector>

#include "runtime/graph/graph.h"

namespace memwall {

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
};

struct AdamWState {
  ValueId parameters = kNoValue, moment1 = kNoValue, moment2 = kNoValue;
};

// One step on a unit's flat buffers, or this rank's shards of them (parts = ranks). `scalars`:
// f64[kScalarCount] as step control left them.
AdamWState emit_adamw(const Scope& scope, int64_t unit, int64_t parts,
                      const AdamWSettings& settings, const AdamWState& state, ValueId gradient,
                      ValueId scalars);

// Reads f64[2 + norm_parts] {loss sum, stop requests, partial sums of squares} and completes the
// scalars: loss, norm, what gradients are multiplied with, whether the step is skipped.
// loss = loss sum * loss_factor; grad_clip: largest norm, 0 for none.
ValueId emit_step_control(const Scope& scope, ValueId reduced, ValueId scalars, int64_t norm_parts,
                          double loss_factor, double grad_clip);

}  // namespace memwall
