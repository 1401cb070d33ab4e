// The GPU of this rank, where the run has one.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/make_communicator.h"
#include "runtime/cli/job.h"
#include "runtime/config/config.h"
#include "runtime/exec/executor.h"
#include "runtime/exec/gpu/module.h"

namespace memwall {

// A rank's GPU and what moves its memory between ranks.
struct Gpu {
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> transfers;  // null with one rank
  std::unique_ptr<SharedArena> arena;       // null: the device's own memory
  Kernel (*kernel)(Op) = nullptr;
  bool graphs = false;        // run.cuda_graphs
  int ranks_sharing = 1;      // this rank's GPU
  int64_t gpus_of_host = 0;   // that this host's ranks have, all together
  int64_t context_bytes = 0;  // of its memory in use when it was opened: its context, and others
  int64_t communicator_bytes = 0;
  int64_t attention_bytes = 0;        // of cuDNN, where it was opened
  int64_t window_rounding_bytes = 0;  // that the arena took, of a symmetric window

  std::string text() const;  // name, target and versions; "" without one
  // Memory outside the arena by name.
  std::vector<std::pair<std::string, int64_t>> memory() const;

  Accelerator accelerator() const {
    return {device.get(), kernel, transfers.get(), arena.get(), graphs};
  }
};

// Settles run.device AUTO: it becomes CUDA where this host has a GPU that the CUDA module can use,
// and else stays, and means the CPU. Who speaks warns where there are module and GPU and yet they
// cannot be used. Throws an InputError where CUDA is asked for and cannot be had.
void settle_device(config::Config& config, bool speaks);

// Local rank r of a host takes GPU r % gpus of those that it sees, which a launcher may have made
// one each. Collective, after the job is connected. Throws an InputError where a configuration asks
// for what the GPUs cannot do. Prints who has which.
Gpu open_gpu(const config::Precision& precision, Job& job);

// BudgetError where the arenas of the ranks that share this rank's GPU do not fit what is free
// there.
void refuse_over_gpu(const Plan& plan, const config::Config& config, const Gpu& gpu);

// Hosting with the GPUs of this host's ranks.
Hosting hosting_with(const Gpu& gpu, Job& job);

// FLOP/s of large products on this rank's GPU; ranks that share one measure in turn. Collective.
double gpu_gemm_flops(Gpu& gpu, DType dtype, Job& job);

// What moves the memory of GPUs, over `fabric`. Collective.
void connect_gpus(Gpu& gpu, const Fabric& fabric, const config::Communication& links, Job& job);

// Makes the executor's arena a symmetric window, where the configuration asks for one. Collective,
// before the first transfer. Throws a SharedError where the rounding is more than planned.
void share_arena(Gpu& gpu, const Executor& executor, const config::Config& config, Job& job);

}  // namespace memwall
