#include "runtime/plan/abstract_arena.h"

#include <algorithm>
#include <iterator>

namespace memwall {
namespace {

// Steps of other streams that are not known to be complete.
std::string race(const Clock& accesses, size_t stream, const Clock& done, const char* what) {
  for (size_t s = 0; s < kStreams; ++s) {
    if (s != stream && accesses[s] > done[s]) {
      return std::string(what) + " step " + std::to_string(accesses[s]) +
             " of the other stream without waiting for it";
    }
  }
  return "";
}

}  // namespace

AbstractArena::AbstractArena(int64_t bytes) : bytes_(bytes) {
  Cell cell;
  cell.end = bytes;
  cells_.emplace(0, cell);
}

AbstractArena::Cells::iterator AbstractArena::split_at(int64_t offset) {
  auto it = std::prev(cells_.upper_bound(offset));
  if (it->first == offset) return it;
  Cell right = it->second;
  right.start += offset - it->first;
  it->second.end = offset;
  return cells_.emplace_hint(std::next(it), offset, right);
}

std::string AbstractArena::read(const AbstractRange& range, size_t stream, int32_t step,
                                const Clock& done) {
  const int64_t end = range.begin + range.bytes;
  if (range.begin < 0 || range.bytes < 0 || end > bytes_) return "lies outside the arena";
  if (range.bytes == 0) return "";
  for (auto it = std::prev(cells_.upper_bound(range.begin)); it != cells_.end() && it->first < end;
       ++it) {
    Cell& cell = it->second;
    const int64_t from = std::max(it->first, range.begin);
    if (cell.value != range.value ||
        cell.start + (from - it->first) != range.start + (from - range.begin)) {
      return "does not find its value at byte " + std::to_string(from);
    }
    const std::string conflict = race(cell.written, stream, done, "reads what is written by");
    if (!conflict.empty()) return conflict;
    cell.read[stream] = std::max(cell.read[stream], step);
  }
  return "";
}

std::string AbstractArena::write(const AbstractRange& range, size_t stream, int32_t step,
                                 const Clock& done) {
  const int64_t end = range.begin + range.bytes;
  if (range.begin < 0 || range.bytes < 0 || end > bytes_) return "lies outside the arena";
  if (range.bytes == 0) return "";
  const auto first = split_at(range.begin);
  if (end < bytes_) split_at(end);
  for (auto it = first; it != cells_.end() && it->first < end; ++it) {
    std::string conflict = race(it->second.written, stream, done, "overwrites the result of");
    if (conflict.empty()) {
      conflict = race(it->second.read, stream, done, "overwrites what is read by");
    }
    if (!conflict.empty()) return conflict;
  }
  cells_.erase(std::next(first), end < bytes_ ? cells_.find(end) : cells_.end());
  Cell& cell = first->second;
  cell = Cell{};
  cell.end = end;
  cell.value = range.value;
  cell.start = range.start;
  cell.written[stream] = step;
  return "";
}

bool AbstractArena::holds(const AbstractRange& range) const {
  const int64_t end = range.begin + range.bytes;
  if (range.begin < 0 || end > bytes_) return false;
  if (range.bytes == 0) return true;
  for (auto it = std::prev(cells_.upper_bound(range.begin)); it != cells_.end() && it->first < end;
       ++it) {
    const int64_t from = std::max(it->first, range.begin);
    if (it->second.value != range.value ||
        it->second.start + (from - it->first) != range.start + (from - range.begin)) {
      return false;
    }
  }
  return true;
}

void AbstractArena::set(const AbstractRange& range) {
  write(range, 0, -1, Clock{INT32_MAX, INT32_MAX});
}

void AbstractArena::settle() {
  for (auto& [begin, cell] : cells_) cell.written = cell.read = Clock{-1, -1};
}

}  // namespace memwall
