// How many threads and blocks a launch has.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/base/math.h"

namespace memwall::cuda {

inline constexpr int kTileThreads = 256;        // of a block that computes tiles or long rows
inline constexpr int kRowWarps = 4;             // of a block whose warps compute a row each
inline constexpr int64_t kWarpElements = 1024;  // the longest rows that a warp computes

// Blocks for `rows` rows, of which a block computes `teams` at a time; they take turns where there
// are more rows than a grid has blocks.
constexpr unsigned blocks_of(int64_t rows, int64_t teams) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  return static_cast<unsigned>(std::min(ceil_div(rows, teams), kMostBlocks));
}

}  // namespace memwall::cuda
