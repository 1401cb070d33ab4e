// An arena run abstractly: which value lies where, who wrote it and who still reads it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

namespace memwall {

constexpr int32_t kUndefined = -1;
constexpr size_t kStreams = 2;
using Clock = std::array<int32_t, kStreams>;  // latest step of each stream known to be complete

// Bytes [begin, begin + bytes) that should hold, or will hold, `value` from `start` on.
struct AbstractRange {
  int64_t begin = 0, bytes = 0;
  int32_t value = kUndefined;
  int64_t start = 0;
};

class AbstractArena {
 public:
  explicit AbstractArena(int64_t bytes);

  // Each returns an empty string, or what is wrong. `stream`, `step`: who accesses; `done`: what
  // is complete when it starts.
  std::string read(const AbstractRange& range, size_t stream, int32_t step, const Clock& done);
  std::string write(const AbstractRange& range, size_t stream, int32_t step, const Clock& done);

  // Whether the range holds its value, whoever wrote it.
  bool holds(const AbstractRange& range) const;
  // Retags without an access: what the host writes, what a program hands over.
  void set(const AbstractRange& range);
  // Everything so far is complete.
  void settle();

 private:
  struct Cell {
    int64_t end = 0;
    int32_t value = kUndefined;
    int64_t start = 0;
    Clock written{-1, -1}, read{-1, -1};  // latest steps by stream; -1: long complete
  };
  using Cells = std::map<int64_t, Cell>;
  Cells::iterator split_at(int64_t offset);
  int64_t bytes_;
  Cells cells_;  // by begin, covering [0, bytes)
};

}  // namespace memwall
