// Starting kernels on threads of the CPU. The twin of cuda/launch.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/base/math.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/kernel.h"
#include "runtime/kernels/reduce.h"
#include "runtime/kernels/team.h"

namespace memwall {

// Below this many elements a second thread costs more than it brings.
inline constexpr int64_t kSerialElements = 16384;

// kernel(team, row) for every row; `elements` a row, as a measure of its work.
template <class Kernel>
void launch(int threads, int64_t rows, int64_t elements, const Kernel& kernel) {
  if (threads <= 1 || rows <= 1 || rows * elements < kSerialElements) {
    CpuTeam team;
    for (int64_t row = 0; row < rows; ++row) kernel(team, row);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    CpuTeam team;
    kernel(team, row);
  }
}

template <class Kernel>
void launch(const KernelCall& call, int64_t rows, int64_t elements, const Kernel& kernel) {
  launch(call.threads, rows, elements, kernel);
}

template <class Kernel>
void launch_tiles(const KernelCall& call, int64_t elements, const Kernel& kernel) {
  launch(call, ceil_div(elements, kTile), kTile, kernel);
}

// Whether a sum over blocks first leaves a partial a block in its workspace: where several threads
// compute them.
inline bool keeps_partials(const KernelCall& call) {
  return call.threads > 1;
}

// Sums over columns, `kernel` as in reduce.h.
template <class Kernel>
void launch_columns(const KernelCall& call, const Kernel& kernel) {
  const int64_t tiles = ceil_div(kernel.width, kColumnTile);
  launch(call, kernel.batch * tiles, kernel.rows * std::min(kernel.width, kColumnTile),
         WholeColumns<Kernel>{kernel, tiles});
}

// Several kernels in one launch: a kernel and the end of its rows, as rows of the launch.
template <class Kernel>
struct Run {
  Kernel kernel;
  int64_t end_row;
};

template <class Kernel>
void launch_list(const KernelCall& call, const std::vector<Run<Kernel>>& runs, int64_t elements) {
  if (runs.empty()) return;
  launch(call, runs.back().end_row, elements, [&](auto& team, int64_t row) {
    size_t run = 0;
    while (runs[run].end_row <= row) ++run;
    runs[run].kernel(team, row - (run == 0 ? 0 : runs[run - 1].end_row));
  });
}

}  // namespace memwall
