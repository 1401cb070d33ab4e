// The runs of a range of a unit's flat buffer that lie in one segment, or in padding.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/base/unit.h"

namespace memwall {

// f(begin, end, segment) for each run in [begin, end) of the unit, in order; segment is nullptr
// for padding. Segments lie in order of their offsets.
template <class F>
void each_run(const Unit& unit, int64_t begin, int64_t end, const F& f) {
  int64_t at = begin;
  for (const Segment& segment : unit.segments) {
    const int64_t from = std::max(at, segment.offset);
    const int64_t to = std::min(end, segment.offset + segment.count);
    if (from >= to) continue;
    if (at < from) f(at, from, static_cast<const Segment*>(nullptr));
    f(from, to, &segment);
    at = to;
  }
  if (at < end) f(at, end, static_cast<const Segment*>(nullptr));
}

}  // namespace memwall
