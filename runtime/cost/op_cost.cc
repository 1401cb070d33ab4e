#include "runtime/cost/op_cost.h"

namespace memwall {

OpSeconds op_seconds(const Machine& machine, const Work& work) {
  const double rate = work.gemm ? gemm_flops(machine, *work.gemm) : machine.vector_flops;
  return {.launch = static_cast<double>(work.launches) * machine.launch_seconds,
          .flops = static_cast<double>(work.flops) / rate,
          .dram = static_cast<double>(work.dram_bytes) / machine.dram_bandwidth};
}

}  // namespace memwall
