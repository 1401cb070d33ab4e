// A unit whose tensors meet every case of spatial averaging, and what a plain loop makes of it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/base/averaging.h"
#include "runtime/base/math.h"
#include "runtime/base/scalars.h"
#include "tests/kernels/op_case.h"

namespace memwall::test {

// Vectors; a matrix that no block divides; rows longer than a shard of many ranks; a matrix whose
// rows no shard cuts; padding between and behind them.
inline Unit curvature_unit(int64_t ranks, int64_t alignment) {
  Unit unit;
  unit.name = "unit";
  int64_t end = 0;
  for (const Shape& shape :
       {Shape{100}, Shape{37, 53}, Shape{64}, Shape{5, 700}, Shape{3, 64}, Shape{10}}) {
    Segment s;
    s.name = "t" + std::to_string(unit.segments.size());
    s.shape = shape;
    s.offset = round_up(end, alignment);
    s.count = shape.elements();
    s.decay = shape.rank() == 2;
    s.index = static_cast<uint32_t>(40 + unit.segments.size());
    end = s.offset + s.count;
    unit.parameters += s.count;
    unit.segments.push_back(s);
  }
  unit.padded = round_up(end, ranks * alignment);
  return unit;
}

inline const Segment* tensor_at(const Unit& unit, int64_t e) {
  for (const Segment& s : unit.segments) {
    if (e >= s.offset && e < s.offset + s.count) return &s;
  }
  return nullptr;
}

// One average: elements [begin, end) of the unit.
struct Entry {
  int64_t begin = 0, end = 0;
  bool operator==(const Entry&) const = default;
};

// The entry of element `e`; empty in padding.
inline Entry entry_at(const Unit& unit, int64_t e, int64_t block) {
  const Segment* s = tensor_at(unit, e);
  if (s == nullptr) return {};
  int64_t size = block;
  if (s->shape.rank() == 1)
    size = 1;
  else if (block == kWholeRows)
    size = s->shape[1];
  const int64_t begin = s->offset + (e - s->offset) / size * size;
  return {begin, std::min(begin + size, s->offset + s->count)};
}

// The entries of elements [begin, end), in order.
inline std::vector<Entry> entries_of(const Unit& unit, int64_t begin, int64_t end, int64_t block) {
  std::vector<Entry> entries;
  for (int64_t e = begin; e < end; ++e) {
    const Entry entry = entry_at(unit, e, block);
    if (entry != Entry{} && (entries.empty() || entries.back() != entry)) entries.push_back(entry);
  }
  return entries;
}

inline Values scalars_with(std::initializer_list<std::pair<Scalar, double>> values) {
  Values out(kScalarCount, 0.0);
  for (const auto& [which, value] : values) out[static_cast<size_t>(which)] = value;
  return out;
}

}  // namespace memwall::test
