// The per-step scalars: one planned buffer of doubles, uploaded once a step by the host and
// completed by the update program. Kernels read it as an explicit operand.
#pragma once

#include <cstdint>

namespace memwall {

enum class Scalar : int64_t {
  // Written by the host before the step.
  kSeed,       // seed of backward: loss scale / (ranks * micro-steps)
  kLossScale,  // what the host divides out again: see optim/
  kLearningRate,
  kUpdates,      // updates with this one, from 1; skipped steps do not count
  kStopRequest,  // signals of this rank, a small bit set as a number; summed over ranks
  // Curvature (docs/adahessian.md).
  kDraw,            // which signs: see kernels/signs.h
  kSignScale,       // what z is multiplied with, a power of two
  kHessianFactor,   // what reduced sums of z * (H z) are multiplied with to be their mean
  kHessianUpdates,  // updates of the second moment with this one, from 1
  // Written by the update program.
  kLoss,        // mean over the global batch
  kGradNorm,    // global, unscaled, before clipping
  kGradScale,   // what the update multiplies gradients with: unscale and clip
  kSkip,        // 1 where norm or trace is not finite: the update leaves everything as it is
  kStopAgreed,  // sum of kStopRequest over ranks
  kTrace,       // the sum of z * (H z): an estimate of the Hessian's trace
  kCount
};

constexpr int64_t kScalarCount = 16;  // slots in the buffer
static_assert(static_cast<int64_t>(Scalar::kCount) <= kScalarCount);

}  // namespace memwall
