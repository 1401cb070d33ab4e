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
  // Written by the update program.
  kLoss,        // mean over the global batch
  kGradNorm,    // global, unscaled, before clipping
  kGradScale,   // what the update multiplies gradients with: unscale and clip
  kSkip,        // 1 where the norm is not finite: the update leaves everything as it is
  kStopAgreed,  // sum of kStopRequest over ranks
  kCount
};

constexpr int64_t kScalarCount = 16;  // slots in the buffer
static_assert(static_cast<int64_t>(Scalar::kCount) <= kScalarCount);

}  // namespace memwall
