// What a number of a schema may be. Private to this room.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>

namespace memwall {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMostCount = 2147483647.0;  // so that a product of two counts is no overflow

// The finite numbers from `low` to `high`, each end included or not.
struct Range {
  std::string_view field;
  double low = 0.0, high = kInfinity;
  bool includes_low = true, includes_high = true;

  bool contains(double x) const {
    return std::isfinite(x) && (includes_low ? x >= low : x > low) &&
           (includes_high ? x <= high : x < high);
  }
  std::string text() const {
    if (high == kInfinity) return fmt::format("{} {}", includes_low ? "at least" : "above", low);
    return fmt::format("{} {}, {} {}", includes_low ? "at least" : "above", low,
                       includes_high ? "at most" : "below", high);
  }
};
constexpr Range count(std::string_view field, double least) {
  return {field, least, kMostCount};
}
constexpr Range at_least_zero(std::string_view field) {
  return {field};
}
constexpr Range above_zero(std::string_view field) {
  return {field, 0.0, kInfinity, false};
}
constexpr Range share(std::string_view field) {
  return {field, 0.0, 1.0, true, false};
}

}  // namespace memwall
