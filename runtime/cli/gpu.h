// The GPU of this rank, where the run has one.
#pragma once

#include <memory>
#include <optional>

#include "comm/make_communicator.h"
#include "runtime/cli/job.h"
#include "runtime/config/config.h"
#include "runtime/exec/executor.h"

namespace memwall {

// A rank's GPU and what moves its memory between ranks.
struct Gpu {
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> transfers;  // null with one rank
  Kernel (*kernel)(Op) = nullptr;
  int64_t free_bytes = 0;     // when all ranks had opened theirs
  int64_t context_bytes = 0;  // of its memory in use when it was opened: its context, and others
  int64_t communicator_bytes = 0;

  std::string text() const;  // name, target and versions; "" without one
  // Memory outside the arena by name.
  std::vector<std::pair<std::string, int64_t>> memory() const;
  Accelerator accelerator() const { return {device.get(), kernel, transfers.get()}; }
};

// Settles run.device AUTO: a GPU where this host has one that the CUDA module can use, else the
// CPU. Throws an InputError where CUDA is asked for and cannot be had.
void settle_device(config::Config& config);

// Local rank r of a host takes GPU r % gpus. Collective, after the job is connected. Throws an
// InputError where a configuration asks for what the GPUs cannot do. Prints who has which.
Gpu open_gpu(const config::Precision& precision, Job& job);

// Hosting with this host's GPUs.
Hosting hosting_with(const Gpu& gpu, Job& job);

// FLOP/s of large products on this rank's GPU; ranks that share one measure in turn. Collective.
double gpu_gemm_flops(Gpu& gpu, DType dtype, Job& job);

// What moves the memory of GPUs, over `fabric`. Collective.
void connect_gpus(Gpu& gpu, const Fabric& fabric, double timeout_seconds, Job& job);

}  // namespace memwall
