// Learning-rate schedules: the rate of a step, counted from 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace memwall {

enum class ScheduleKind : uint8_t { kConstant, kCosine };

struct LearningRateSchedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  double learning_rate = 0.0;
  double min_learning_rate = 0.0;  // cosine: the rate at and after `decay_steps`
  int64_t warmup_steps = 0;        // the rate rises linearly: (step + 1) / (warmup_steps + 1)
  int64_t decay_steps = 0;         // cosine: warm-up included

  // nanoGPT's `get_lr`: linear warm-up, then half a cosine (Loshchilov and Hutter 2017, "SGDR").
  double at(int64_t step) const {
    if (step < warmup_steps) {
      return learning_rate * static_cast<double>(step + 1) / static_cast<double>(warmup_steps + 1);
    }
    if (kind == ScheduleKind::kConstant) return learning_rate;
    if (step >= decay_steps) return min_learning_rate;
    const double progress = static_cast<double>(step - warmup_steps) /
                            static_cast<double>(std::max<int64_t>(1, decay_steps - warmup_steps));
    const double weight = 0.5 * (1.0 + std::cos(3.14159265358979323846 * progress));
    return min_learning_rate + weight * (learning_rate - min_learning_rate);
  }
};

}  // namespace memwall
