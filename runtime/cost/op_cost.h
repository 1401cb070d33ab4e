// Seconds of an operation on a device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/base/op.h"
#include "runtime/cost/machine.h"

namespace memwall {

// A roofline (Williams et al. 2009) behind the time of its launches:
//
//     seconds = launches * launch_seconds + max(flops / FLOP/s, bytes / (bytes/s))
//
// with the device's rates: those of matrix products of the operands' type, or of everything else;
// or, where this kind of operation was measured, with its own three numbers. Steps that were timed
// correct those: with c(p) = timed seconds / seconds by the formula of a timed step p, a step takes
// c times as long as by the formula, where c is
//
//     of a step with the FLOPs, bytes and launches of a timed one: its c(p)
//     of others: c(p) of the timed steps next to it in size, interpolated over log(size); beyond
//     the smallest and the largest, theirs. Size: of a launch, FLOPs of a matrix product, else
//     bytes
//
// So a timed step takes as long as it did, and rates that are scaled (WhatIf) change it in
// proportion.
struct OpSeconds {
  double launch = 0.0, flops = 0.0, dram = 0.0;
  double seconds() const { return launch + std::max(flops, dram); }
};

struct OpWork {
  Op op = Op::kCopy;
  DType dtype = DType::kF32;  // of the step's first operand
  int64_t flops = 0, dram_bytes = 0, launches = 1;
};
OpSeconds op_seconds(const Machine& machine, const OpWork& work);

// Makes `rate.corrections` from steps that were timed.
void correct(OpRate& rate, const std::vector<OpPoint>& points);

}  // namespace memwall
