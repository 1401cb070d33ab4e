// Devices and errors of the CUDA runtime.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "tests/imitated_gpu/process.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

constexpr int kMultiprocessors = 132;
constexpr int kSharedBytes = 48 << 10;        // a block's without asking
constexpr int kSharedOptinBytes = 227 << 10;  // a block's at most
constexpr int kL2Bytes = 50 << 20;

void fill(cudaDeviceProp& properties, int device) {
  properties = {};
  std::snprintf(properties.name, sizeof(properties.name), "Imitated GPU");
  std::memcpy(properties.uuid.bytes, "imitated GPU", 12);
  properties.uuid.bytes[15] = static_cast<char>(settings().first + device);
  properties.totalGlobalMem = settings().device_bytes;
  properties.major = settings().arch / 10;
  properties.minor = settings().arch % 10;
  properties.multiProcessorCount = kMultiprocessors;
  properties.warpSize = 32;
  properties.maxThreadsPerBlock = 1024;
  properties.maxThreadsPerMultiProcessor = 2048;
  properties.maxBlocksPerMultiProcessor = 32;
  properties.sharedMemPerBlock = kSharedBytes;
  properties.sharedMemPerBlockOptin = kSharedOptinBytes;
  properties.sharedMemPerMultiprocessor = 228 << 10;
  properties.reservedSharedMemPerBlock = 1024;
  properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
  properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = 1024;
  properties.maxThreadsDim[2] = 64;
  properties.maxGridSize[0] = 2147483647;
  properties.maxGridSize[1] = properties.maxGridSize[2] = 65535;
  properties.totalConstMem = 64 << 10;
  properties.l2CacheSize = kL2Bytes;
  properties.memoryBusWidth = 5120;
  properties.asyncEngineCount = 3;
  properties.concurrentKernels = 1;
  properties.unifiedAddressing = 1;
  properties.streamPrioritiesSupported = 1;
  properties.canMapHostMemory = 1;
  properties.hostRegisterSupported = 1;
  properties.pciBusID = settings().first + device + 1;
}

cudaError_t attribute(int& value, cudaDeviceAttr name, int device) {
  cudaDeviceProp p;
  fill(p, device);
  switch (name) {
    case cudaDevAttrMaxThreadsPerBlock: value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxBlockDimX: value = p.maxThreadsDim[0]; break;
    case cudaDevAttrMaxBlockDimY: value = p.maxThreadsDim[1]; break;
    case cudaDevAttrMaxBlockDimZ: value = p.maxThreadsDim[2]; break;
    case cudaDevAttrMaxGridDimX: value = p.maxGridSize[0]; break;
    case cudaDevAttrMaxGridDimY: value = p.maxGridSize[1]; break;
    case cudaDevAttrMaxGridDimZ: value = p.maxGridSize[2]; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: value = kSharedBytes; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: value = kSharedOptinBytes; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: value = 228 << 10; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: value = 1024; break;
    case cudaDevAttrWarpSize: value = p.warpSize; break;
    case cudaDevAttrMaxRegistersPerBlock: value = p.regsPerBlock; break;
    case cudaDevAttrMaxRegistersPerMultiprocessor: value = p.regsPerBlock; break;
    case cudaDevAttrMultiProcessorCount: value = p.multiProcessorCount; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: value = p.maxBlocksPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: value = p.minor; break;
    case cudaDevAttrL2CacheSize: value = p.l2CacheSize; break;
    case cudaDevAttrGlobalMemoryBusWidth: value = p.memoryBusWidth; break;
    case cudaDevAttrMemoryClockRate: value = 2619000; break;  // kHz
    case cudaDevAttrClockRate: value = 1980000; break;        // kHz
    case cudaDevAttrAsyncEngineCount: value = p.asyncEngineCount; break;
    case cudaDevAttrUnifiedAddressing: value = 1; break;
    case cudaDevAttrHostRegisterSupported: value = 1; break;
    case cudaDevAttrStreamPrioritiesSupported: value = 1; break;
    case cudaDevAttrPciBusId: value = p.pciBusID; break;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrIntegrated:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrConcurrentManagedAccess:
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrComputeMode: value = 0; break;
    default: complain("device attribute %d is not imitated", name); return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  return api("cudaGetDeviceCount", [&](Lock&) {
    *count = settings().devices;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return api("cudaSetDevice", [&](Lock&) {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    current_device() = device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return api("cudaGetDevice", [&](Lock&) {
    *device = current_device();
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return api("cudaGetDeviceProperties", [&](Lock&) {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    fill(*properties, device);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device) {
  return api("cudaDeviceGetAttribute", [&](Lock&) {
    return is_device(device) ? attribute(*value, name, device) : cudaErrorInvalidDevice;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  return api("cudaDeviceGetPCIBusId", [&](Lock&) {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    const int needed = std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0",
                                     settings().first + device + 1);
    return needed < length ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return api("cudaMemGetInfo", [&](Lock&) {
    size_t used = Memory::kContextBytes + process().memory.allocated(current_device());
    for (const auto& [handle, launchable] : process().launchables) {
      if (launchable->graph.device == current_device()) used += bytes_of(*launchable);
    }
    *total = settings().device_bytes;
    *free = *total > used ? *total - used : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return api("cudaDeviceSynchronize", [](Lock& lock) {
    if (const cudaError_t error = process().check_no_capture()) return error;
    process().scheduler.wait_device(lock, current_device(), false);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return api("cudaDeviceGetStreamPriorityRange", [&](Lock&) {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return cudaSuccess;
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  return last_error(true);
}
cudaError_t cudaPeekAtLastError() {
  return last_error(false);
}

}  // extern "C"
