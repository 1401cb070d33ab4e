// Memory and copies of the CUDA runtime.
#include <cuda_runtime_api.h>

#include <cstring>
#include <vector>

#include "tests/imitated_gpu/process.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

struct Copy {
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
  bool to_device = false, from_device = false;
  bool to_pageable = false, from_pageable = false;
};

bool is_pinned(const void* pointer, size_t bytes) {
  const Memory& memory = process().memory;
  return memory.holds(pointer, bytes, Place::kPinned) ||
         memory.holds(pointer, bytes, Place::kRegistered);
}

// Whether a range is either inside one allocation of the library or touches none at its start.
bool is_whole(const void* pointer, size_t bytes) {
  const Allocation* allocation = process().memory.find(pointer);
  return allocation == nullptr || process().memory.holds(pointer, bytes, allocation->place);
}

bool on_some_device(const void* pointer) {
  const Allocation* allocation = process().memory.find(pointer);
  return allocation != nullptr && allocation->place == Place::kDevice;
}

const char* kind_name(cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToHost: return "cudaMemcpyHostToHost";
    case cudaMemcpyHostToDevice: return "cudaMemcpyHostToDevice";
    case cudaMemcpyDeviceToHost: return "cudaMemcpyDeviceToHost";
    case cudaMemcpyDeviceToDevice: return "cudaMemcpyDeviceToDevice";
    default: return "cudaMemcpyDefault";
  }
}

// Checks ranges and direction. Copies that overlap have no defined result and are refused too.
cudaError_t check(Copy& copy, cudaMemcpyKind kind) {
  copy.to_device = on_some_device(copy.to);
  copy.from_device = on_some_device(copy.from);
  copy.to_pageable = !copy.to_device && !is_pinned(copy.to, copy.bytes);
  copy.from_pageable = !copy.from_device && !is_pinned(copy.from, copy.bytes);
  if (!is_whole(copy.to, copy.bytes) || !is_whole(copy.from, copy.bytes)) {
    complain("a copy of %zu bytes leaves its allocation (%s)", copy.bytes, kind_name(kind));
    return cudaErrorInvalidValue;
  }
  const auto direction = copy.from_device
                             ? (copy.to_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                             : (copy.to_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
  if (kind != cudaMemcpyDefault && kind != direction) {
    complain("a copy called %s is %s", kind_name(kind), kind_name(direction));
    return cudaErrorInvalidValue;
  }
  const auto to = reinterpret_cast<uintptr_t>(copy.to);
  const auto from = reinterpret_cast<uintptr_t>(copy.from);
  if (to < from + copy.bytes && from < to + copy.bytes) {
    complain("a copy of %zu bytes overlaps itself by %s", copy.bytes, kind_name(direction));
    return cudaErrorInvalidValue;
  }
  count_bytes(kind_name(direction), copy.bytes);
  return cudaSuccess;
}

cudaError_t allocate(Lock&, Place place, void** pointer, size_t bytes) {
  if (const cudaError_t error = process().check_no_capture()) return error;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = process().memory.allocate(place, current_device(), bytes);
  if (*pointer == nullptr) return cudaErrorMemoryAllocation;
  count_bytes(place == Place::kDevice ? "cudaMalloc" : "cudaMallocHost", bytes);
  return cudaSuccess;
}

// As in CUDA, freeing waits for all work of the device.
cudaError_t release(Lock& lock, Place place, void* pointer) {
  if (const cudaError_t error = process().check_no_capture()) return error;
  if (pointer == nullptr) return cudaSuccess;
  const Allocation* allocation = process().memory.find(pointer);
  if (allocation == nullptr) return cudaErrorInvalidValue;
  for (int device = 0; device < settings().devices; ++device) {
    process().scheduler.wait_device(lock, device, false);
  }
  return process().memory.release(pointer, place) ? cudaSuccess : cudaErrorInvalidValue;
}

void run(const Copy& copy) {
  std::memcpy(copy.to, copy.from, copy.bytes);
}

cudaError_t copy_async(Lock& lock, Copy copy, cudaMemcpyKind kind, cudaStream_t handle) {
  const StreamPtr stream = find_stream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (copy.bytes == 0) return cudaSuccess;
  if (const cudaError_t error = check(copy, kind)) return error;
  Process& p = process();
  const bool captured = stream->capture != nullptr;
  if (copy.from_pageable && copy.to_device && !captured) {
    const auto* first = static_cast<const std::byte*>(copy.from);
    auto staged = std::make_shared<std::vector<std::byte>>(first, first + copy.bytes);
    p.issue(stream, [copy, staged]() mutable {
      copy.from = staged->data();
      run(copy);
      return true;
    });
    return cudaSuccess;
  }
  p.issue(stream, [copy] {
    run(copy);
    return true;
  });
  const bool with_host = !copy.to_device || !copy.from_device;
  if (with_host && (copy.to_pageable || copy.from_pageable) && !captured) {
    p.scheduler.wait(lock, stream);  // such a copy returns when it is done
  }
  return cudaSuccess;
}

cudaError_t set_async(void* pointer, int value, size_t bytes, cudaStream_t handle) {
  const StreamPtr stream = find_stream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (!process().memory.holds(pointer, bytes, Place::kDevice)) return cudaErrorInvalidValue;
  process().issue(stream, [=] {
    std::memset(pointer, value, bytes);
    return true;
  });
  return cudaSuccess;
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return api("cudaMalloc",
             [&](Lock& lock) { return allocate(lock, Place::kDevice, pointer, bytes); });
}
cudaError_t cudaFree(void* pointer) {
  return api("cudaFree", [&](Lock& lock) { return release(lock, Place::kDevice, pointer); });
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return api("cudaMallocHost",
             [&](Lock& lock) { return allocate(lock, Place::kPinned, pointer, bytes); });
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return api("cudaHostAlloc",
             [&](Lock& lock) { return allocate(lock, Place::kPinned, pointer, bytes); });
}
cudaError_t cudaFreeHost(void* pointer) {
  return api("cudaFreeHost", [&](Lock& lock) { return release(lock, Place::kPinned, pointer); });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  return api("cudaHostRegister", [&](Lock&) {
    if (pointer == nullptr || bytes == 0) return cudaErrorInvalidValue;
    return process().memory.register_host(pointer, bytes) ? cudaSuccess
                                                          : cudaErrorHostMemoryAlreadyRegistered;
  });
}
cudaError_t cudaHostUnregister(void* pointer) {
  return api("cudaHostUnregister", [&](Lock& lock) {
    return release(lock, Place::kRegistered, pointer) == cudaSuccess
               ? cudaSuccess
               : cudaErrorHostMemoryNotRegistered;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return api("cudaMemcpy", [&](Lock& lock) {
    Copy copy{to, from, bytes};
    if (const cudaError_t error = process().check_no_capture()) return error;
    if (bytes == 0) return cudaSuccess;
    if (const cudaError_t error = check(copy, kind)) return error;
    // The legacy default stream: ordered with blocking streams only.
    process().scheduler.wait_device(lock, current_device(), true);
    const OpenMemory open(process().memory);
    run(copy);
    return cudaSuccess;
  });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return api("cudaMemcpyAsync", [&](Lock& lock) {
    return copy_async(lock, Copy{to, from, bytes}, kind, stream);
  });
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return api("cudaMemset", [&](Lock& lock) {
    if (const cudaError_t error = process().check_no_capture()) return error;
    if (bytes == 0) return cudaSuccess;
    if (!process().memory.holds(pointer, bytes, Place::kDevice)) return cudaErrorInvalidValue;
    process().scheduler.wait_device(lock, current_device(), true);
    const OpenMemory open(process().memory);
    std::memset(pointer, value, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  return api("cudaMemsetAsync", [&](Lock&) { return set_async(pointer, value, bytes, stream); });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return api("cudaPointerGetAttributes", [&](Lock&) {
    *attributes = {};
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -1;
    attributes->hostPointer = const_cast<void*>(pointer);
    const Allocation* allocation = process().memory.find(pointer);
    if (allocation == nullptr) return cudaSuccess;
    const bool device = allocation->place == Place::kDevice;
    attributes->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    attributes->device = allocation->device;
    attributes->devicePointer = const_cast<void*>(pointer);
    if (device) attributes->hostPointer = nullptr;
    return cudaSuccess;
  });
}

// Device memory is not shared between processes.
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t*, void*) {
  return api("cudaIpcGetMemHandle", [](Lock&) { return cudaErrorNotSupported; });
}
cudaError_t cudaIpcOpenMemHandle(void**, cudaIpcMemHandle_t, unsigned) {
  return api("cudaIpcOpenMemHandle", [](Lock&) { return cudaErrorNotSupported; });
}
cudaError_t cudaIpcCloseMemHandle(void*) {
  return api("cudaIpcCloseMemHandle", [](Lock&) { return cudaErrorNotSupported; });
}

}  // extern "C"
