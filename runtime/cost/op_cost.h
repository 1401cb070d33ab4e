// Seconds of an operation on a device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "runtime/cost/machine.h"

namespace memwall {

// A roofline (Williams et al. 2009) behind the time of a launch:
//
//     seconds = launches * launch_seconds + max(flops / FLOP/s, bytes / (bytes/s))
struct OpSeconds {
  double launch = 0.0, flops = 0.0, dram = 0.0;
  double seconds() const { return launch + std::max(flops, dram); }
};

struct Work {
  int64_t flops = 0, dram_bytes = 0, launches = 1;
  std::optional<DType> gemm;  // the operands' type, where it is a matrix product
};
OpSeconds op_seconds(const Machine& machine, const Work& work);

}  // namespace memwall
