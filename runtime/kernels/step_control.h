// What the step's scalars are after the backward pass: loss, norm, clipping, and whether to skip.
#pragma once

#include <cmath>

#include "runtime/base/op.h"
#include "runtime/base/scalars.h"
#include "runtime/kernels/team.h"

namespace memwall {

MEMWALL_HOST_DEVICE inline double scalar(const double* scalars, Scalar which) {
  return scalars[static_cast<int64_t>(which)];
}

// Clipping as torch.nn.utils.clip_grad_norm_ does it.
struct StepControl {
  const double *reduced, *before;
  double* scalars;
  StepControlAttributes a;

  MEMWALL_HOST_DEVICE void set(Scalar which, double value) const {
    scalars[static_cast<int64_t>(which)] = value;
  }

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t) const {
    team.lead([&] {
      constexpr double kClipEpsilon = 1e-6;
      for (int64_t i = 0; i < kScalarCount; ++i) scalars[i] = before[i];
      double squares = 0.0;
      for (int64_t i = 0; i < a.norm_parts; ++i) squares += reduced[2 + i];
      double trace = 0.0;
      for (int64_t i = 0; i < a.trace_parts; ++i) trace += reduced[2 + a.norm_parts + i];
      const double loss_scale = scalar(scalars, Scalar::kLossScale);
      const double norm = std::sqrt(squares) / loss_scale;
      const double limit = a.grad_clip / (norm + kClipEpsilon);
      const double clip = a.grad_clip > 0.0 && limit < 1.0 ? limit : 1.0;
      set(Scalar::kLoss, reduced[0] * a.loss_factor);
      set(Scalar::kStopAgreed, reduced[1]);
      set(Scalar::kGradNorm, norm);
      set(Scalar::kGradScale, clip / loss_scale);
      const bool finite = norm - norm == 0.0 && trace - trace == 0.0;
      set(Scalar::kSkip, finite ? 0.0 : 1.0);
      if (a.trace_parts > 0) {
        set(Scalar::kTrace, trace * scalar(scalars, Scalar::kHessianFactor));
      }
    });
  }
};

}  // namespace memwall
