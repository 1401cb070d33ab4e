#include "runtime/base/averaging.h"

#include <algorithm>
#include <numeric>

#include "runtime/base/error.h"
#include "runtime/base/math.h"

namespace memwall {

int64_t averaging_alignment(int64_t block) {
  check(block == kWholeRows || block >= 1, "an averaging block is rows or at least one element");
  return block == kWholeRows ? kUnitAlignment : std::lcm(kUnitAlignment, block);
}

int64_t entry_elements(const Segment& segment, int64_t block) {
  if (segment.shape.rank() < 2) return 1;
  return block == kWholeRows ? segment.count / segment.shape[0] : block;
}

int64_t averaged_entries(const Unit& unit, int64_t begin, int64_t end, int64_t block) {
  int64_t entries = 0;
  for (const Segment& segment : unit.segments) {
    const int64_t from = std::max(begin - segment.offset, int64_t{0});
    const int64_t to = std::min(end - segment.offset, segment.count);
    const int64_t size = entry_elements(segment, block);
    if (from < to) entries += ceil_div(to, size) - from / size;
  }
  return entries;
}

int64_t averaged_elements(const Unit& unit, int64_t parts, int64_t block) {
  const int64_t part = unit.padded / parts;
  int64_t most = 0;
  for (int64_t p = 0; p < parts; ++p) {
    most = std::max(most, averaged_entries(unit, p * part, (p + 1) * part, block));
  }
  return most;
}

UnitRow row_of_element(const Unit& unit, int64_t e) {
  for (const Segment& segment : unit.segments) {
    if (e < segment.offset || e >= segment.offset + segment.count) continue;
    if (segment.shape.rank() < 2) return {};
    const int64_t width = entry_elements(segment, kWholeRows);
    const int64_t begin = segment.offset + (e - segment.offset) / width * width;
    return {begin, begin + width};
  }
  return {};
}

}  // namespace memwall
