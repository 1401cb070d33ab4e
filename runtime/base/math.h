// Integer helpers on sizes and counts.
#pragma once

#include <cstdint>

namespace memwall {

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
constexpr int64_t round_up(int64_t a, int64_t multiple) {
  return ceil_div(a, multiple) * multiple;
}

// The largest divisor of `n` that is at most `limit` (at least 1).
constexpr int64_t largest_divisor(int64_t n, int64_t limit) {
  for (int64_t d = limit < n ? limit : n; d > 1; --d) {
    if (n % d == 0) return d;
  }
  return 1;
}

}  // namespace memwall
