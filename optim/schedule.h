// Learning-rate schedules: the rate of a step, counted from 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace memwall {

enum class ScheduleKind : uint8_t {
  kConstant,
  kCosine,       // half a cosine to min_learning_rate (Loshchilov and Hutter 2017, "SGDR")
  kLinear,       // a line to min_learning_rate
  kWsd,          // stable, then down as 1 - sqrt over the last fifth (Hagele et al. 2024)
  kInverseSqrt,  // as 1 / sqrt(step) after the warm-up (Vaswani et al. 2017), never below the
                 // minimum
};

// All begin with a linear warm-up, (step + 1) / (warmup_steps + 1) of the rate, as nanoGPT's
// get_lr.
struct LearningRateSchedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  double learning_rate = 0.0;
  double min_learning_rate = 0.0;
  int64_t warmup_steps = 0;
  int64_t decay_steps =
      0;  // cosine, linear, WSD: the step that reaches the minimum, counted from 0

  double at(int64_t step) const {
    if (step < warmup_steps) return learning_rate * ratio(step + 1, warmup_steps + 1);
    switch (kind) {
      case ScheduleKind::kConstant: return learning_rate;
      case ScheduleKind::kCosine:
        return between(0.5 * (1.0 + std::cos(kPi * progress(step, warmup_steps))));
      case ScheduleKind::kLinear: return between(1.0 - progress(step, warmup_steps));
      case ScheduleKind::kWsd: {
        const int64_t stable = std::max(warmup_steps, decay_steps - decay_steps / 5);
        return between(1.0 - std::sqrt(progress(step, stable)));
      }
      case ScheduleKind::kInverseSqrt: {
        const double fall = std::sqrt(ratio(warmup_steps + 1, step + 1));
        return std::max(min_learning_rate, learning_rate * fall);
      }
    }
    return learning_rate;
  }

 private:
  static constexpr double kPi = 3.14159265358979323846;
  static double ratio(int64_t a, int64_t b) {
    return static_cast<double>(a) / static_cast<double>(b);
  }
  // 0 up to `from`, 1 at and after decay_steps.
  double progress(int64_t step, int64_t from) const {
    if (step >= decay_steps) return 1.0;
    return step <= from ? 0.0 : ratio(step - from, decay_steps - from);
  }
  double between(double weight) const {
    return min_learning_rate + weight * (learning_rate - min_learning_rate);
  }
};

}  // namespace memwall
