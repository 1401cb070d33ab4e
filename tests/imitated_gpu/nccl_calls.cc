// The API of NCCL.
#include <cstring>
#include <random>

#include "tests/imitated_gpu/nccl_communicator.h"
#include "tests/imitated_gpu/nccl_sum.h"
#include "tests/imitated_gpu/nccl_windows.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

struct Pending {
  CommunicatorPtr communicator;
  StreamPtr stream;
  std::vector<Part> parts;
};

// Calls between ncclGroupStart and ncclGroupEnd of this thread.
struct Group {
  int depth = 0;
  ncclResult_t error = ncclSuccess;
  std::vector<Pending> pending;  // one for each communicator and stream
};
thread_local Group the_group;

void add_to_group(const CommunicatorPtr& communicator, const StreamPtr& stream, const Part& part) {
  for (Pending& pending : the_group.pending) {
    if (pending.communicator == communicator && pending.stream == stream) {
      pending.parts.push_back(part);
      return;
    }
  }
  the_group.pending.push_back({communicator, stream, {part}});
}

// In place is where a rank's own block of the larger buffer is the smaller one; any other overlap
// has no defined result.
bool overlaps_badly(const Part& part, const ncclComm& communicator) {
  const auto from = reinterpret_cast<uintptr_t>(part.from);
  const auto to = reinterpret_cast<uintptr_t>(part.to);
  const size_t from_bytes = part.from_bytes(communicator.size);
  const size_t to_bytes = part.to_bytes(communicator.size);
  if (from_bytes == 0 || to_bytes == 0) return false;
  if (from + from_bytes <= to || to + to_bytes <= from) return false;
  const size_t own =
      static_cast<size_t>(communicator.rank) * part.count * nccl_element_bytes(part.type);
  switch (part.call) {
    case Call::kAllGather: return from != to + own;
    case Call::kReduceScatter: return to != from + own;
    default: return from != to;
  }
}

ncclResult_t check(const Part& part, const ncclComm& communicator, const StreamPtr& stream) {
  if (const ncclResult_t result = ensure_ready(communicator)) return result;
  if (communicator.error != ncclSuccess) return communicator.error;
  if (communicator.finalized) return nccl_error(ncclInvalidUsage, "the communicator is finalized");
  if (stream == nullptr || stream->device != communicator.device) {
    return nccl_error(ncclInvalidArgument, "the stream is not one of the communicator's device");
  }
  if (nccl_element_bytes(part.type) == 0) {
    return nccl_error(ncclInvalidArgument, "the type is not imitated");
  }
  if (part.peer < 0 || part.peer >= communicator.size) {
    return nccl_error(ncclInvalidArgument, "no such peer or root");
  }
  const Memory& memory = process().memory;
  const bool reads = part.call != Call::kBroadcast || part.peer == communicator.rank;
  const size_t from_bytes = reads ? part.from_bytes(communicator.size) : 0;
  const size_t to_bytes = part.to_bytes(communicator.size);
  if ((from_bytes > 0 && !memory.on_device(part.from, from_bytes, communicator.device)) ||
      (to_bytes > 0 && !memory.on_device(part.to, to_bytes, communicator.device))) {
    return nccl_error(ncclInvalidArgument,
                      "a buffer does not lie inside one allocation of the communicator's device");
  }
  if (reads && overlaps_badly(part, communicator)) {
    return nccl_error(ncclInvalidArgument, "the buffers overlap otherwise than in place");
  }
  return ncclSuccess;
}

// NCCL orders its own kernels by events of its own, which leaves nodes in a graph (its
// NCCL_GRAPH_MIXING_SUPPORT).
void note_in_capture(const StreamPtr& stream) {
  if (stream->capture == nullptr) return;
  static cudaEvent_t own = [] {
    auto made = std::make_unique<Event>();
    const auto event = reinterpret_cast<cudaEvent_t>(made.get());
    process().events[made.get()] = std::move(made);
    return event;
  }();
  process().record_at_launch(own, stream);
}

ncclResult_t call(const char* name, ncclComm_t handle, cudaStream_t stream_handle, Part part) {
  return nccl_api(name, [&](Lock&) {
    const CommunicatorPtr communicator = find_communicator(handle);
    if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
    const StreamPtr stream = find_stream(stream_handle);
    const ncclResult_t result = check(part, *communicator, stream);
    if (result != ncclSuccess) {
      complain("%s: %s", name, last_nccl_error());
      if (the_group.depth > 0 && the_group.error == ncclSuccess) the_group.error = result;
      return result;
    }
    if (part.count == 0) return ncclSuccess;
    part.place = place_of(part, *communicator);
    if (the_group.depth > 0) {
      add_to_group(communicator, stream, part);
      return ncclSuccess;
    }
    // The work is in the stream when the call has ended, and not before.
    return begin(*communicator, [communicator, stream, part] {
      issue(communicator, stream, {part});
      note_in_capture(stream);
      return ncclSuccess;
    });
  });
}

template <class Value>
ncclResult_t tell(const char* name, ncclComm_t handle, Value* value, Value ncclComm::*field) {
  return nccl_api(name, [&](Lock&) {
    const CommunicatorPtr communicator = find_communicator(handle);
    if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
    *value = (*communicator).*field;
    return ncclSuccess;
  });
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  return nccl_api("ncclGetUniqueId", [&](Lock&) {
    std::random_device random;
    for (char& byte : id->internal) byte = static_cast<char>(random());
    return ncclSuccess;
  });
}

ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank) {
  return nccl_api("ncclCommInitRank",
                  [&](Lock&) { return initialize(communicator, ranks, id, rank, true); });
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  return nccl_api("ncclCommInitRankConfig", [&](Lock&) {
    const ncclConfig_t initial = NCCL_CONFIG_INITIALIZER;
    if (config != nullptr && (config->magic != initial.magic || config->size != initial.size)) {
      return nccl_error(ncclInvalidArgument, "the configuration is not initialised");
    }
    return initialize(communicator, ranks, id, rank, config == nullptr || config->blocking != 0);
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  return nccl_api("ncclCommFinalize", [&](Lock& lock) {
    const CommunicatorPtr communicator = find_communicator(handle);
    if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
    if (const ncclResult_t result = ensure_ready(*communicator)) return result;
    if (communicator->finalized) return nccl_error(ncclInvalidArgument, "finalized already");
    communicator->finalized = true;
    if (communicator->blocking) wait_for_calls(lock, *communicator);
    return begin(*communicator, [last = communicator->last] {
      if (last == nullptr || last->done) return ncclSuccess;
      process().scheduler.poll(last);
      return ncclInProgress;
    });
  });
}
ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  return nccl_api("ncclCommDestroy", [&](Lock& lock) {
    const CommunicatorPtr communicator = find_communicator(handle);
    if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
    if (const ncclResult_t result = ensure_ready(*communicator)) return result;
    if (!communicator->blocking && !communicator->finalized) {
      return nccl_error(ncclInvalidUsage, "a communicator that does not block is not finalized");
    }
    wait_for_calls(lock, *communicator);
    refuse_with_graphs(*communicator);
    destroy(communicator);
    return ncclSuccess;
  });
}
// Also of a device that is lost.
ncclResult_t ncclCommAbort(ncclComm_t handle) {
  if (inside_work()) return ncclInvalidUsage;
  const Lock lock(process().mutex);
  count_call("ncclCommAbort");
  const CommunicatorPtr communicator = find_communicator(handle);
  if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
  refuse_with_graphs(*communicator);
  abort(communicator);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
  if (inside_work()) return ncclInvalidUsage;
  const Lock lock(process().mutex);
  count_call("ncclCommGetAsyncError");
  const CommunicatorPtr communicator = find_communicator(handle);
  if (communicator == nullptr) return nccl_error(ncclInvalidArgument, "no such communicator");
  process().scheduler.drift();
  *error = get_on(*communicator);
  if (process().lost != cudaSuccess && communicator->error == ncclSuccess) {
    *error = ncclUnhandledCudaError;
  }
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t communicator, int* count) {
  return tell("ncclCommCount", communicator, count, &ncclComm::size);
}
ncclResult_t ncclCommUserRank(const ncclComm_t communicator, int* rank) {
  return tell("ncclCommUserRank", communicator, rank, &ncclComm::rank);
}
ncclResult_t ncclCommCuDevice(const ncclComm_t communicator, int* device) {
  return tell("ncclCommCuDevice", communicator, device, &ncclComm::device);
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
  }
}
const char* ncclGetLastError(ncclComm_t) {
  return last_nccl_error();
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  return call("ncclAllGather", communicator, stream, {Call::kAllGather, type, count, 0, from, to});
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t communicator, cudaStream_t stream) {
  if (op != ncclSum) return nccl_error(ncclInvalidArgument, "only sums are imitated");
  return call("ncclReduceScatter", communicator, stream,
              {Call::kReduceScatter, type, count, 0, from, to});
}
ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t communicator, cudaStream_t stream) {
  if (op != ncclSum) return nccl_error(ncclInvalidArgument, "only sums are imitated");
  return call("ncclAllReduce", communicator, stream, {Call::kAllReduce, type, count, 0, from, to});
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  return call("ncclBroadcast", communicator, stream,
              {Call::kBroadcast, type, count, root, from, to});
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return call("ncclSend", communicator, stream, {Call::kSend, type, count, peer, from, nullptr});
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return call("ncclRecv", communicator, stream, {Call::kReceive, type, count, peer, nullptr, to});
}

ncclResult_t ncclGroupStart() {
  ++the_group.depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  return nccl_api("ncclGroupEnd", [](Lock&) {
    if (the_group.depth == 0) return nccl_error(ncclInvalidUsage, "no group has been started");
    if (--the_group.depth > 0) return ncclSuccess;
    const Group group = std::exchange(the_group, {});
    if (group.error != ncclSuccess) return group.error;
    ncclResult_t result = ncclSuccess;
    for (const Pending& pending : group.pending) {
      const ncclResult_t begun = begin(*pending.communicator, [pending] {
        issue(pending.communicator, pending.stream, pending.parts);
        note_in_capture(pending.stream);
        return ncclSuccess;
      });
      if (begun != ncclSuccess) result = begun;
    }
    return result;
  });
}

}  // extern "C"
