// Kernels: what nvcc's host code calls, and the launch.
#include <cuda_runtime_api.h>
#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "tests/imitated_gpu/kernel_binders.h"
#include "tests/imitated_gpu/process.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

constexpr size_t kSharedBytes = 48 << 10;
constexpr size_t kSharedOptinBytes = 227 << 10;

struct Kernel {
  std::string name;
  KernelBinder bind = nullptr;
  size_t shared_bytes = kSharedBytes;  // what a launch may ask for
  bool is_loaded = false;
};

// By host function. Filled before main too.
std::map<const void*, Kernel>& kernels() {
  static auto& the_kernels = *new std::map<const void*, Kernel>;
  return the_kernels;
}

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

bool has_code() {
  return settings().code == 0 || settings().code == settings().arch;
}

struct Configuration {
  dim3 grid, block;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};
thread_local std::vector<Configuration> the_configurations;

bool is_valid(const Configuration& c) {
  const auto within = [](unsigned value, unsigned most) { return value >= 1 && value <= most; };
  return within(c.grid.x, 2147483647u) && within(c.grid.y, 65535) && within(c.grid.z, 65535) &&
         within(c.block.x, 1024) && within(c.block.y, 1024) && within(c.block.z, 64) &&
         size_t{c.block.x} * c.block.y * c.block.z <= 1024 && c.shared_bytes <= kSharedOptinBytes;
}

cudaError_t launch(const void* function, const Configuration& configuration, void** arguments,
                   bool fails) {
  const StreamPtr stream = find_stream(configuration.stream);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const auto found = kernels().find(function);
  if (found == kernels().end() || found->second.bind == nullptr) {
    complain("no binder for the kernel at %p (%s)", function,
             found == kernels().end() ? "unknown" : found->second.name.c_str());
    return cudaErrorInvalidDeviceFunction;
  }
  Kernel& kernel = found->second;
  if (!has_code()) return cudaErrorNoKernelImageForDevice;
  // Its code is loaded by its first launch, which a capture need not allow.
  if (stream->capture != nullptr && !kernel.is_loaded) {
    complain("%s: is launched for the first time, and that within a capture", kernel.name.c_str());
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  if (!is_valid(configuration)) {
    complain("%s: grid (%u, %u, %u), block (%u, %u, %u), %zu shared bytes", kernel.name.c_str(),
             configuration.grid.x, configuration.grid.y, configuration.grid.z,
             configuration.block.x, configuration.block.y, configuration.block.z,
             configuration.shared_bytes);
    return cudaErrorInvalidConfiguration;
  }
  if (configuration.shared_bytes > kernel.shared_bytes) {
    complain("%s: %zu shared bytes, allowed by cudaFuncSetAttribute are %zu", kernel.name.c_str(),
             configuration.shared_bytes, kernel.shared_bytes);
    return cudaErrorInvalidValue;
  }
  if (stream->device != current_device()) {
    complain("%s: its stream is of device %d, the current one is %d", kernel.name.c_str(),
             stream->device, current_device());
    return cudaErrorInvalidResourceHandle;
  }
  kernel.is_loaded = true;
  count_kernel(kernel.name);
  auto run = kernel.bind(arguments, configuration.grid.x, configuration.block.x);
  Work work = [run = std::move(run), fails] {
    if (fails) {
      process().lose(cudaErrorIllegalAddress);
    } else {
      run();
    }
    return true;
  };
  process().issue(stream, std::move(work), {{{"cudaLaunchKernel", 0}}, nullptr});
  return cudaSuccess;
}

// A launch's fault is not api()'s: it shows when the kernel runs.
cudaError_t launch_call(const void* function, const Configuration& configuration,
                        void** arguments) {
  if (inside_work()) return cudaErrorNotPermitted;
  Lock lock(process().mutex);
  const bool fails = count_call("cudaLaunchKernel");
  if (process().lost != cudaSuccess) return remember(process().lost);
  const cudaError_t error = settings().devices == 0
                                ? cudaErrorNoDevice
                                : launch(function, configuration, arguments, fails);
  process().scheduler.drift();
  return remember(error);
}

}  // namespace

void register_kernel(const void* host_function, KernelBinder bind) {
  const Lock lock(process().mutex);
  kernels()[host_function].bind = bind;
}

}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream) {
  return launch_call(function, {grid, block, shared_bytes, stream}, arguments);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* function,
                                void** arguments) {
  return launch_call(function, {c->gridDim, c->blockDim, c->dynamicSmemBytes, c->stream},
                     arguments);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return api("cudaFuncGetAttributes", [&](Lock&) {
    if (!kernels().contains(function)) return cudaErrorInvalidDeviceFunction;
    if (!has_code()) return cudaErrorNoKernelImageForDevice;
    *attributes = {};
    return cudaSuccess;
  });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return api("cudaFuncSetAttribute", [&](Lock&) {
    const auto found = kernels().find(function);
    if (found == kernels().end()) return cudaErrorInvalidDeviceFunction;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || static_cast<size_t>(value) > kSharedOptinBytes) return cudaErrorInvalidValue;
    found->second.shared_bytes = static_cast<size_t>(value);
    return cudaSuccess;
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*,
                                                                   int threads, size_t, unsigned) {
  return api("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [&](Lock&) {
    if (threads < 1 || threads > 1024) return cudaErrorInvalidValue;
    *blocks = 2048 / threads;
    return cudaSuccess;
  });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                          int threads, size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads,
                                                                shared_bytes, 0);
}

// The rest is called by the code that nvcc makes of `kernel<<<...>>>(...)` and of a source file
// with kernels; crt/host_runtime.h and crt/device_functions.h of CUDA 13.

void** __cudaRegisterFatBinary(void*) {
  return new void*(nullptr);
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void** handle) {
  delete handle;
}
char __cudaInitModule(void**) {
  return 1;
}

void __cudaRegisterFunction(void**, const char* host_function, char*, const char* device_name, int,
                            uint3*, uint3*, dim3*, dim3*, int*) {
  const Lock lock(process().mutex);
  kernels()[host_function].name = demangled(device_name);
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterManagedVar(void**, void**, char*, const char*, int, size_t, int, int) {}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                     CUstream_st* stream) {
  the_configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes,
                                       void* stream) {
  if (the_configurations.empty()) return cudaErrorMissingConfiguration;
  const Configuration& last = the_configurations.back();
  *grid = last.grid;
  *block = last.block;
  *shared_bytes = last.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = last.stream;
  the_configurations.pop_back();
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared_bytes, cudaStream_t stream) {
  return launch_call(reinterpret_cast<const void*>(kernel), {grid, block, shared_bytes, stream},
                     arguments);
}

}  // extern "C"
