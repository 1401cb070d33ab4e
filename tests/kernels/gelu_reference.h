// GELU in its tanh form (Hendrycks and Gimpel 2016) and its derivative, in double precision.
#pragma once

#include <cmath>

namespace memwall::test {

inline double gelu(double x) {
  const double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(u));
}
inline double gelu_slope(double x) {
  const double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  const double du = std::sqrt(2.0 / M_PI) * (1.0 + 3 * 0.044715 * x * x);
  return 0.5 * (1.0 + std::tanh(u)) + 0.5 * x * (1.0 - std::pow(std::tanh(u), 2)) * du;
}

}  // namespace memwall::test
