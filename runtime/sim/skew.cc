#include "runtime/sim/skew.h"

#include <cmath>
#include <numbers>

namespace memwall {

double expected_maximum(int64_t n) {
  if (n <= 1) return 0.0;
  const auto distribution = [](double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); };
  const auto power = static_cast<double>(n);
  // Simpson's rule; beyond 12 the integrand of 2^53 ranks is below 1e-16.
  constexpr int kIntervals = 2400;
  constexpr double kEnd = 12.0, kWidth = kEnd / kIntervals;
  double sum = 0.0;
  for (int i = 0; i <= kIntervals; ++i) {
    const double x = i * kWidth;
    const double value = 1.0 - std::pow(distribution(x), power) - std::pow(distribution(-x), power);
    sum += value * (i == 0 || i == kIntervals ? 1.0 : i % 2 == 1 ? 4.0 : 2.0);
  }
  return sum * kWidth / 3.0;
}

}  // namespace memwall
