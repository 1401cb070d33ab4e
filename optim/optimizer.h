// Optimizers and global-norm clipping as graph nodes. An optimizer is what it keeps beside the
// parameters and the one op of its update, on a unit's flat buffers or a rank's shards of them.
#pragma once

#include <cstdint>
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

// Yao et al. 2020, "ADAHESSIAN: An adaptive second order optimizer for machine learning", with
// decoupled weight decay: m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) h^2; p -= rate ((m
// / bc1) / (sqrt(s)^k / sqrt(bc2)^k + epsilon) + weight_decay p), where h averages |z * (H z)| over
// space, k is hessian_power and bc1, bc2 correct the biases of m and s.
struct AdaHessianSettings {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-4, weight_decay = 0.0;
  double hessian_power = 1.0;    // in (0, 1]
  int64_t averaging_block = 32;  // elements, or kWholeRows: base/averaging.h
  int64_t update_every = 1;      // steps from one measurement of curvature to the next
  int64_t probes = 1;            // random z a measurement
};

using OptimizerSettings = std::variant<AdamWSettings, SgdSettings, AdaHessianSettings>;

// How many buffers of the parameters' size an optimizer keeps, in the master's precision.
int64_t moment_count(const OptimizerSettings& settings);

struct OptimizerState {
  ValueId parameters = kNoValue;
  std::vector<ValueId> moments;
};

// One step of a unit, whole (parts = 1) or this rank's shard (parts = ranks). `scalars`:
// f64[kScalarCount] as step control left them. `curvature`: ADAHESSIAN's h, compressed
// (base/averaging.h); kNoValue on its steps that measure none, which leave s as it is.
OptimizerState emit_update(const Scope& scope, int64_t unit, int64_t parts,
                           const OptimizerSettings& settings, const OptimizerState& state,
                           ValueId gradient, ValueId scalars, ValueId curvature = kNoValue);

// Reads f64[2 + norm_parts + trace_parts] {loss sum, stop requests, partial sums of squares,
// partial sums of z * (H z)} and completes the scalars: loss, norm, what gradients are multiplied
// with, trace, whether the step is skipped. loss = loss sum * loss_factor; grad_clip: largest norm,
// 0 for none.
ValueId emit_step_control(const Scope& scope, ValueId reduced, ValueId scalars, int64_t norm_parts,
                          double loss_factor, double grad_clip, int64_t trace_parts = 0);

}  // namespace memwall
