// The order in which a team of the GPU adds, as runtime/kernels/cuda/team.h states it, in plain
// loops over one element at a time.
#pragma once

#include <cstddef>
#include <vector>

namespace memwall::test {

// Four elements go to a thread at a time. A thread keeps a sum for each of these four lanes; lane i
// is added to lane i + 2, the second to the first; thread t of a warp to t + 16, + 8, + 4, + 2, +
// 1; the warps follow in their order.
template <class T>
T sum_in_team_order(const std::vector<T>& x, size_t threads) {
  std::vector<T> lanes(4 * threads, T{0});
  for (size_t i = 0; i < x.size(); ++i) lanes[i % lanes.size()] += x[i];
  std::vector<T> sums;
  for (size_t t = 0; t < threads; ++t) {
    const T* const lane = &lanes[4 * t];
    sums.push_back((lane[0] + lane[2]) + (lane[1] + lane[3]));
  }
  T total{0};
  for (size_t warp = 0; warp < threads; warp += 32) {
    for (size_t distance : {16, 8, 4, 2, 1}) {
      for (size_t t = warp; t < warp + distance; ++t) sums[t] += sums[t + distance];
    }
    total = warp == 0 ? sums[0] : total + sums[warp];
  }
  return total;
}

}  // namespace memwall::test
