// Starting kernels on the GPU. The twin of cpu/launch.h.
//
// Each kernel is registered together with what runs it on the host, lane by lane: imitated GPUs
// (tests/imitated_gpu) execute launches by that. A real GPU's module ignores it.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/base/math.h"
#include "runtime/kernels/cuda/context.h"
#include "runtime/kernels/cuda/device_team.cuh"
#include "runtime/kernels/cuda/geometry.h"
#include "runtime/kernels/cuda/imitation.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/fused.h"
#include "runtime/kernels/kernel.h"
#include "runtime/kernels/reduce.h"

namespace memwall {
namespace cuda {

// Teams of kTeam threads, in blocks of kBlock. A warp's teams take no barriers of the block.
template <class Kernel, int kTeam, int kBlock>
__global__ void __launch_bounds__(kBlock)
    run(const __grid_constant__ Kernel kernel, const int64_t rows) {
  static_assert(kTeam == kWarp || kTeam == kBlock);
  constexpr int kTeams = kBlock / kTeam;
  const int64_t first = int64_t{blockIdx.x} * kTeams + threadIdx.x / kTeam;
  for (int64_t row = first; row < rows; row += int64_t{gridDim.x} * kTeams) {
    DeviceTeam<kTeam> team;
    kernel(team, row);
  }
}

template <class Kernel, int kTeam>
std::function<void()> bind_imitation(void** arguments, unsigned, unsigned) {
  const Kernel kernel = *static_cast<const Kernel*>(arguments[0]);
  const int64_t rows = *static_cast<const int64_t*>(arguments[1]);
  return [kernel, rows] {
    for (int64_t row = 0; row < rows; ++row) {
      ImitatedTeam<kTeam> team;
      kernel(team, row);
    }
  };
}

// Of this translation unit, as the address is that nvcc gives a kernel in each.
template <int kTeam, int kBlock, class Kernel>
static void start(const KernelCall& call, int64_t rows, const Kernel& kernel) {
  if (rows <= 0) return;
  const auto function = &run<Kernel, kTeam, kBlock>;
  static const bool registered = (imitated::register_kernel(reinterpret_cast<const void*>(function),
                                                            &bind_imitation<Kernel, kTeam>),
                                  true);
  static_cast<void>(registered);
  const unsigned grid = blocks_of(rows, kBlock / kTeam);
  function<<<grid, kBlock, 0, cuda::context_of(call).stream>>>(kernel, rows);
  check_cuda(cudaGetLastError(), "kernel launch");
}

}  // namespace cuda

// kernel(team, row) for every row; `elements` a row, as a measure of its work.
template <class Kernel>
void launch(const KernelCall& call, int64_t rows, int64_t elements, const Kernel& kernel) {
  if (elements <= cuda::kWarpElements) {
    cuda::start<cuda::kWarp, cuda::kRowWarps * cuda::kWarp>(call, rows, kernel);
  } else {
    cuda::start<cuda::kTileThreads, cuda::kTileThreads>(call, rows, kernel);
  }
}

template <class Kernel>
void launch_tiles(const KernelCall& call, int64_t elements, const Kernel& kernel) {
  cuda::start<cuda::kTileThreads, cuda::kTileThreads>(call, ceil_div(elements, kTile), kernel);
}

inline bool keeps_partials(const KernelCall&) {
  return true;
}

// The partials of blocks of rows, then their sums.
template <class Kernel>
void launch_columns(const KernelCall& call, const Kernel& kernel) {
  using C = typename Kernel::Arithmetic;
  constexpr bool kDual = !std::is_same_v<typename Kernel::Partials, Output<C>>;
  const int64_t tiles = ceil_div(kernel.width, kColumnTile);
  const int64_t blocks = ceil_div(kernel.rows, kRowBlock);
  const int64_t sums = kernel.batch * blocks * kernel.width;
  check(static_cast<int64_t>(call.workspace.size() / sizeof(C)) >= sums * (kDual ? 2 : 1),
        "a sum over columns: the workspace is too small");
  C* const values = reinterpret_cast<C*>(call.workspace.data());
  typename Kernel::Partials partials;
  const auto total = [&](C* of, auto out) {
    for (int64_t batch = 0; batch < kernel.batch; ++batch) {
      launch(call, tiles, kColumnTile,
             SumOfBlocks{of + batch * blocks * kernel.width, out.from(batch * kernel.width), blocks,
                         kernel.width, kernel.width});
    }
  };
  if constexpr (kDual) {
    partials = {{values}, {values + sums}};
  } else {
    partials = {values};
  }
  launch(call, kernel.batch * blocks * tiles, kColumnTile,
         ColumnBlocks<Kernel, typename Kernel::Partials>{kernel, partials, tiles, blocks});
  if constexpr (kDual) {
    total(values, kernel.out(0).value);
    total(values + sums, kernel.out(0).tangent);
  } else {
    total(values, kernel.out(0));
  }
}

// Several kernels in one launch: a kernel and the end of its rows, as rows of the launch.
template <class Kernel>
struct Run {
  Kernel kernel;
  int64_t end_row;
};

namespace cuda {

inline constexpr size_t kArgumentBytes = 4000;  // of a launch, of the 4096 that any driver takes

template <class Kernel>
struct RunTable {
  static constexpr int kMost = static_cast<int>(kArgumentBytes / sizeof(Run<Kernel>));
  static_assert(kMost > 0);
  Run<Kernel> runs[kMost];

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    int i = 0;
    while (runs[i].end_row <= row) ++i;
    runs[i].kernel(team, row - (i == 0 ? 0 : runs[i - 1].end_row));
  }
};

}  // namespace cuda

template <class Kernel>
void launch_list(const KernelCall& call, const std::vector<Run<Kernel>>& runs, int64_t) {
  using Table = cuda::RunTable<Kernel>;
  for (size_t first = 0; first < runs.size(); first += Table::kMost) {
    const size_t count = std::min<size_t>(Table::kMost, runs.size() - first);
    const int64_t before = first == 0 ? 0 : runs[first - 1].end_row;
    Table table{};
    for (size_t i = 0; i < count; ++i) {
      table.runs[i] = runs[first + i];
      table.runs[i].end_row -= before;
    }
    cuda::start<cuda::kTileThreads, cuda::kTileThreads>(call, table.runs[count - 1].end_row, table);
  }
}

}  // namespace memwall
