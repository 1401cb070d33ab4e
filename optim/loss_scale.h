// Dynamic loss scaling (Micikevicius et al. 2017, "Mixed precision training"): the scale doubles
// after so many clean steps and drops after an overflow, whose step is skipped by all ranks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace memwall {

struct LossScaleSettings {
  bool dynamic = false;  // off: the scale is 1 for good
  double initial_scale = 65536.0;
  int64_t growth_interval = 2000;  // clean steps before the scale doubles
  double backoff = 0.5;            // factor on overflow
  int64_t hysteresis = 1;          // overflows since the last change before the scale drops
  double min_scale = 1.0;
};

struct LossScaleState {
  double scale = 1.0;
  int64_t clean_steps = 0;  // since the last change or overflow
  int64_t overflows = 0;    // since the last change
  bool operator==(const LossScaleState&) const = default;
};

inline LossScaleState initial_loss_scale(const LossScaleSettings& settings) {
  return {settings.dynamic ? settings.initial_scale : 1.0, 0, 0};
}

inline bool at_minimum(const LossScaleSettings& settings, const LossScaleState& state) {
  return !settings.dynamic || state.scale <= settings.min_scale;
}

// The state after a step that overflowed, or did not.
inline LossScaleState next_loss_scale(const LossScaleSettings& settings, LossScaleState state,
                                      bool overflowed) {
  if (!settings.dynamic) return state;
  if (overflowed) {
    state.clean_steps = 0;
    if (++state.overflows < settings.hysteresis) return state;
    return {std::max(settings.min_scale, state.scale * settings.backoff), 0, 0};
  }
  if (++state.clean_steps < settings.growth_interval) return state;
  return {state.scale * 2.0, 0, 0};
}

// The scale of z, which 16-bit tangents carry beside the loss scale: H z leaves their range before
// the gradient does. It begins low, grows after as many clean measurements as the loss scale does
// after clean steps, and has no minimum that training could reach.
inline LossScaleSettings sign_scale_settings(const LossScaleSettings& loss) {
  LossScaleSettings sign = loss;
  sign.initial_scale = 0x1p-7;
  sign.backoff = 0.5;  // a power of two stays one
  sign.hysteresis = 1;
  sign.min_scale = 0x1p-14;  // 16-bit numbers below are rounded more coarsely
  return sign;
}

// What the loss sum's gradient is multiplied with: the scale is that of one rank's micro-step mean,
// so that the usable scale does not shrink as ranks and micro-steps grow. `contributions`: ranks
// times micro-steps.
inline double effective_loss_scale(double scale, int64_t contributions) {
  double power = 1.0;
  while (power < static_cast<double>(contributions)) power *= 2.0;
  return scale * power;
}

}  // namespace memwall
