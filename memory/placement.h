// Interval placement: lifetimes in, offsets out.
#pragma once

#include <cstdint>
#include <vector>

namespace memwall {

struct Interval {
  int64_t bytes = 0;
  int32_t first = 0, last = 0;  // list positions in which it is alive, both included
};

struct Placed {
  std::vector<int64_t> offsets;  // of each interval, multiples of `alignment`
  int64_t bytes = 0;             // the region's size
  int64_t lower_bound = 0;       // most bytes alive at once (rounded up to the alignment)
};

// Largest first, each at the lowest offset free for its whole lifetime ("greedy by size", Pisarchyk
// and Lee 2020, "Efficient memory management for deep neural net inference"); its weakness is
// fragmentation where long and short lifetimes of like size alternate, which `bytes` beside
// `lower_bound` shows.
Placed place_intervals(const std::vector<Interval>& intervals, int64_t alignment);

}  // namespace memwall
