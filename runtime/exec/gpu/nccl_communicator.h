// Collectives between GPUs over NCCL, on the device's communication queue.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "runtime/base/device.h"
#include "runtime/exec/gpu/module.h"

namespace memwall::cuda {

// Collective over `host`, which tells the ranks NCCL's id. Both must outlive it.
std::unique_ptr<Communicator> make_nccl_communicator(Device& device, Communicator& host,
                                                     double timeout_seconds);

// In memory of NCCL's allocator. `nccl`: a communicator of the function above, which must outlive
// it.
std::unique_ptr<SharedArena> make_shared_arena(Communicator& nccl);

}  // namespace memwall::cuda
