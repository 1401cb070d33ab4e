#include "runtime/cost/machine.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/base/error.h"

namespace memwall {

Machine scaled(Machine machine, const WhatIf& factors) {
  GemmFlops& gemm = machine.gemm_flops;
  for (double* rate : {&gemm.fp64, &gemm.fp32, &gemm.fp16, &gemm.bf16, &machine.vector_flops}) {
    *rate *= factors.flops;
  }
  machine.dram_bandwidth *= factors.dram;
  machine.link.bandwidth *= factors.link;
  machine.nic.bandwidth *= factors.link;
  for (OpRate& rate : machine.op_rates) {
    rate.flops *= factors.flops;
    rate.bandwidth *= factors.dram;
  }
  for (TransferRate& rate : machine.transfer_rates) {
    rate.link.bandwidth *= factors.link;
    rate.nic.bandwidth *= factors.link;
  }
  return machine;
}

const OpRate* find_op_rate(const Machine& machine, Op op, DType dtype) {
  for (const OpRate& rate : machine.op_rates) {
    if (rate.op == op && rate.dtype == dtype) return &rate;
  }
  return nullptr;
}

const TransferRate* find_transfer_rate(const Machine& machine, Op op, Algorithm algorithm,
                                       Transport transport) {
  for (const TransferRate& rate : machine.transfer_rates) {
    if (rate.op == op && rate.algorithm == algorithm && rate.transport == transport) return &rate;
  }
  return nullptr;
}

double gemm_flops(const Machine& machine, DType dtype) {
  const GemmFlops& gemm = machine.gemm_flops;
  double rate = 0.0;
  std::string_view field;
  switch (dtype) {
    case DType::kF64: rate = gemm.fp64, field = "fp64"; break;
    case DType::kF32: rate = gemm.fp32, field = "fp32"; break;
    case DType::kF16: rate = gemm.fp16, field = "fp16"; break;
    case DType::kBF16: rate = gemm.bf16, field = "bf16"; break;
    default: throw InternalError("a product of integers");
  }
  if (rate > 0.0) return rate;
  throw InputError(fmt::format("device.peak_flops.{} is missing", field), machine.name,
                   "add it, or choose another precision.mode");
}

Topology topology_of(const Machine& machine, int64_t ranks) {
  const int64_t devices = machine.devices;
  if (ranks <= devices) return {.ranks = ranks, .ranks_a_node = ranks, .nodes = 1};
  if (machine.nics == 0) {
    throw InputError(
        fmt::format("{} ranks do not fit on one node of {} devices, and node.nics is 0", ranks,
                    devices),
        machine.name, fmt::format("allowed: at most {} ranks", devices));
  }
  if (ranks % devices != 0) {
    const int64_t below = ranks / devices * devices;
    throw InputError(fmt::format("{} ranks do not fill whole nodes of {} devices", ranks, devices),
                     machine.name, fmt::format("allowed: {} or {}", below, below + devices));
  }
  return {.ranks = ranks, .ranks_a_node = devices, .nodes = ranks / devices};
}

}  // namespace memwall
