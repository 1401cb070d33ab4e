// What a run carries from step to step beside the plan's slots.
#pragma once

#include <cstdint>

#include "optim/loss_scale.h"

namespace memwall {

struct StepState {
  int64_t applied = 0;  // steps that were not skipped: the t of the moments
  LossScaleState loss_scale;
  int64_t measured = 0;  // applied steps that measured curvature: the t of its moment
  LossScaleState sign_scale;
  bool operator==(const StepState&) const = default;
};

inline StepState initial_state(const LossScaleSettings& scales) {
  return {.loss_scale = initial_loss_scale(scales),
          .sign_scale = initial_loss_scale(sign_scale_settings(scales))};
}

}  // namespace memwall
