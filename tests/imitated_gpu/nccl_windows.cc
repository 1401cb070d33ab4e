#include "tests/imitated_gpu/nccl_windows.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

std::set<const void*>& allocations() {  // of ncclMemAlloc
  static auto& all = *new std::set<const void*>;
  return all;
}

// All ranks register windows of one size. What MPI writes to is kept for ever, as in Meeting.
struct Comparison {
  uint64_t mine = 0;
  std::vector<uint64_t> all;
  MPI_Request request = MPI_REQUEST_NULL;
  bool started = false;

  ncclResult_t get_on(const ncclComm& communicator) {
    if (communicator.size == 1) return ncclSuccess;
    if (!started) {
      all.resize(static_cast<size_t>(communicator.size));
      MPI_Iallgather(&mine, sizeof(mine), MPI_BYTE, all.data(), sizeof(mine), MPI_BYTE,
                     communicator.world, &request);
      started = true;
    }
    int done = 0;
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done == 0) return ncclInProgress;
    const bool equal = std::all_of(all.begin(), all.end(), [&](uint64_t n) { return n == mine; });
    return equal ? ncclSuccess
                 : nccl_error(ncclInvalidArgument, "the ranks' windows differ in size");
  }
};

ncclResult_t register_window(const CommunicatorPtr& communicator, void* buffer, size_t bytes,
                             ncclWindow_t* window, bool symmetric) {
  const auto first = reinterpret_cast<uintptr_t>(buffer);
  if (first % NCCL_WIN_REQUIRED_ALIGNMENT != 0 ||
      !process().memory.on_device(buffer, bytes, communicator->device)) {
    return nccl_error(ncclInvalidArgument, "a window needs device memory aligned to 4096 bytes");
  }
  if (allocations().count(process().memory.start_of(buffer)) == 0) {
    return nccl_error(ncclUnhandledCudaError, "memory of cudaMalloc cannot be a window");
  }
  auto* const comparison = new Comparison{bytes, {}};
  ncclComm* const owner = communicator.get();
  const ncclResult_t result = begin(*communicator, [=] {
    const ncclResult_t compared = comparison->get_on(*owner);
    if (compared != ncclSuccess) return compared;
    owner->windows.push_back(std::make_unique<Window>(Window{first, bytes, symmetric}));
    *window = reinterpret_cast<ncclWindow_t>(owner->windows.back().get());
    return ncclSuccess;
  });
  // The real one says so of a communicator that does not block.
  return result == ncclInProgress ? ncclSuccess : result;
}

}  // namespace

uint64_t place_of(const Part& part, const ncclComm& communicator) {
  const void* const reached = part.call == Call::kReduceScatter ? part.from : part.to;
  if (part.call == Call::kSend || part.call == Call::kReceive) return 0;
  const auto at = reinterpret_cast<uintptr_t>(reached);
  for (const auto& window : communicator.windows) {
    if (!window->symmetric || at < window->begin || at >= window->begin + window->bytes) continue;
    return at - window->begin + 1;
  }
  return 0;
}

}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

ncclResult_t ncclMemAlloc(void** pointer, size_t bytes) {
  return nccl_api("ncclMemAlloc", [&](Lock&) {
    const size_t unit = settings().granularity;
    *pointer = process().memory.allocate(Place::kDevice, current_device(),
                                         (bytes + unit - 1) / unit * unit);
    if (*pointer == nullptr) return nccl_error(ncclUnhandledCudaError, "out of memory");
    allocations().insert(*pointer);
    count_bytes("ncclMemAlloc", bytes);
    return ncclSuccess;
  });
}

// Of memory that is in use, the real one has no defined result; here it ends the process. Also of a
// device that is lost.
ncclResult_t ncclMemFree(void* pointer) {
  if (inside_work()) return ncclInvalidUsage;
  const Lock lock(process().mutex);
  count_call("ncclMemFree");
  const Allocation* const allocation = process().memory.find(pointer);
  if (allocation == nullptr || allocations().erase(pointer) == 0) {
    return nccl_error(ncclInvalidArgument, "not of ncclMemAlloc");
  }
  if (!process().scheduler.is_idle(allocation->device)) {
    complain("ncclMemFree of memory that queued work may use");
    std::abort();
  }
  if (has_window(pointer)) {
    complain("ncclMemFree of memory that is a window");
    std::abort();
  }
  process().memory.release(pointer, Place::kDevice);
  return ncclSuccess;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t handle, void* buffer, size_t bytes,
                                    ncclWindow_t* window, int flags) {
  return nccl_api("ncclCommWindowRegister", [&](Lock&) {
    const CommunicatorPtr communicator = find_communicator(handle);
    if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
    if (const ncclResult_t result = ensure_ready(*communicator)) return result;
    *window = nullptr;
    if (!settings().windows) return ncclSuccess;
    return register_window(communicator, buffer, bytes, window,
                           (flags & NCCL_WIN_COLL_SYMMETRIC) != 0);
  });
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t handle, ncclWindow_t window) {
  return nccl_api("ncclCommWindowDeregister", [&](Lock&) {
    const CommunicatorPtr communicator = find_communicator(handle);
    if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
    if (const ncclResult_t result = ensure_ready(*communicator)) return result;
    const size_t erased = std::erase_if(communicator->windows, [&](const auto& own) {
      return reinterpret_cast<ncclWindow_t>(own.get()) == window;
    });
    return erased > 0 ? ncclSuccess : nccl_error(ncclInvalidArgument, "no such window");
  });
}

}  // extern "C"
