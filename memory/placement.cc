#include "memory/placement.h"

#include <algorithm>
#include <numeric>

#include "runtime/base/math.h"

namespace memwall {
namespace {

int64_t most_alive(const std::vector<Interval>& intervals, int64_t alignment) {
  int32_t end = 0;
  for (const Interval& i : intervals) end = std::max(end, i.last + 1);
  std::vector<int64_t> change(static_cast<size_t>(end) + 1, 0);
  for (const Interval& i : intervals) {
    change[static_cast<size_t>(i.first)] += round_up(i.bytes, alignment);
    change[static_cast<size_t>(i.last) + 1] -= round_up(i.bytes, alignment);
  }
  int64_t now = 0, most = 0;
  for (int64_t step : change) most = std::max(most, now += step);
  return most;
}

}  // namespace

Placed place_intervals(const std::vector<Interval>& intervals, int64_t alignment) {
  Placed placed;
  placed.offsets.assign(intervals.size(), 0);
  placed.lower_bound = most_alive(intervals, alignment);
  std::vector<size_t> order(intervals.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals[a].bytes > intervals[b].bytes; });
  std::vector<size_t> done;  // by offset
  for (size_t k : order) {
    const Interval& mine = intervals[k];
    const int64_t bytes = round_up(mine.bytes, alignment);
    int64_t offset = 0;
    for (size_t other : done) {
      const Interval& theirs = intervals[other];
      if (theirs.last < mine.first || mine.last < theirs.first) continue;
      if (placed.offsets[other] - offset >= bytes) break;
      offset = std::max(offset, placed.offsets[other] + round_up(theirs.bytes, alignment));
    }
    placed.offsets[k] = offset;
    placed.bytes = std::max(placed.bytes, offset + bytes);
    const auto at =
        std::upper_bound(done.begin(), done.end(), offset,
                         [&](int64_t o, size_t other) { return o < placed.offsets[other]; });
    done.insert(at, k);
  }
  return placed;
}

}  // namespace memwall
