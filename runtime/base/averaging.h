// How curvature is averaged over space (Yao et al. 2020): which elements of a unit share one entry,
// and how many entries a buffer of averages has.
//
// Every element of a 1-D tensor is an entry of its own. A matrix has an entry for each `block`
// consecutive elements of the flattened tensor, the last one short where `block` does not divide
// it, or for each row (kWholeRows). Padding has none. A compressed buffer of the elements
// [begin, end) holds the entries that have an element there, segment by segment; blocks never cross
// the end of a shard (averaging_alignment), but rows may, and are then an entry of both.
#pragma once

#include <cstdint>

#include "runtime/base/unit.h"

namespace memwall {

// What offsets of tensors and ends of shards are multiples of.
int64_t averaging_alignment(int64_t block);

// Elements of one entry of the segment; the last may be short.
int64_t entry_elements(const Segment& segment, int64_t block);

// Entries of the unit's elements [begin, end).
int64_t averaged_entries(const Unit& unit, int64_t begin, int64_t end, int64_t block);

// Elements of a compressed buffer of one of `parts` equal parts: the entries of the part with most.
// A part that has fewer keeps zeros behind them.
int64_t averaged_elements(const Unit& unit, int64_t parts, int64_t block);

// Elements [begin, end) of the unit: a row of a matrix, or none.
struct UnitRow {
  int64_t begin = 0, end = 0;
  bool operator==(const UnitRow&) const = default;
  bool none() const { return begin == end; }
};

// The row of a matrix that element `e` of the unit belongs to; none in vectors and padding.
UnitRow row_of_element(const Unit& unit, int64_t e);

}  // namespace memwall
