#include "runtime/exec/gpu/cuda_device.h"

#include <nccl.h>
#include <nvtx3/nvToolsExt.h>

#include <string>

#include "runtime/base/error.h"
#include "runtime/kernels/cuda/attention_library.h"
#include "runtime/kernels/cuda/gemm_cache.h"
#include "runtime/kernels/cuda/probe.h"

namespace memwall::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Plans are made for the first GPU of a generation; the later ones run its code.
std::string target_of(int major, int minor) {
  const bool has_plans = major >= 8 && major <= 10;
  return "sm_" + std::to_string(10 * major + (has_plans ? 0 : minor));
}

void check_code(const DeviceInfo& info) {
  if (has_code()) return;
  throw InputError(
      "libmemwall_cuda.so has no code for GPU " + std::to_string(info.index) + " (" + info.name +
          ", compute capability " + info.capability +
          "): it was built for " MEMWALL_CUDA_ARCHITECTURES,
      "run.device: CUDA",
      "build with -DMEMWALL_CUDA_ARCHITECTURES=" + info.target.substr(3) + "-real, or choose CPU");
}

DeviceInfo describe(int index) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  std::array<char, 32> address{};
  check_cuda(cudaDeviceGetPCIBusId(address.data(), static_cast<int>(address.size()), index),
             "cudaDeviceGetPCIBusId");
  int driver = 0, runtime = 0, nccl = 0;
  ncclGetVersion(&nccl);
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  return {.name = properties.name,
          .capability = std::to_string(properties.major) + "." + std::to_string(properties.minor),
          .target = target_of(properties.major, properties.minor),
          .versions = "CUDA driver " + version_text(driver) + ", runtime " + version_text(runtime) +
                      ", cuBLASLt " + std::to_string(cublasLtGetVersion()) + ", NCCL " +
                      std::to_string(nccl),
          .address = address.data(),
          .index = index,
          .bytes = static_cast<int64_t>(properties.totalGlobalMem)};
}

}  // namespace

CudaDevice::CudaDevice(int index, bool tf32) {
  check_cuda(cudaSetDevice(index), "cudaSetDevice");
  info_ = describe(index);
  check_code(info_);
  int least = 0, greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest),
             "cudaDeviceGetStreamPriorityRange");
  for (size_t i = 0; i < streams_.size(); ++i) {
    // Transfers first: what they wait for is longer than what they take.
    const int priority = static_cast<Queue>(i) == Queue::kCompute ? least : greatest;
    check_cuda(cudaStreamCreateWithPriority(&streams_[i], cudaStreamNonBlocking, priority),
               "cudaStreamCreateWithPriority");
  }
  check_cublas(cublasLtCreate(&context_.blas), "cublasLtCreate");
  context_.stream = stream(Queue::kCompute);
  context_.products = make_gemm_cache();
  context_.attentions = make_attention_library();
  context_.tf32 = tf32;
}

CudaDevice::~CudaDevice() {
  for (cudaStream_t s : streams_) {
    if (s != nullptr) cudaStreamSynchronize(s);
  }
  graphs_.forget_all();
  context_.products.reset();
  context_.attentions.reset();
  for (cudaStream_t s : streams_) {
    if (s != nullptr) cudaStreamDestroy(s);
  }
  if (context_.blas != nullptr) cublasLtDestroy(context_.blas);
}

std::byte* CudaDevice::allocate(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is reported here
    throw Error("GPU " + std::to_string(info_.index) + " (" + info_.name + ") has " +
                    std::to_string(free_bytes()) + " bytes free of " + std::to_string(info_.bytes) +
                    ", but " + std::to_string(bytes) + " are needed",
                "", "end what else runs on it (nvidia-smi names it), or make the plan smaller");
  }
  check_cuda(status, "cudaMalloc");
  return static_cast<std::byte*>(memory);
}

void CudaDevice::release(std::byte* memory) {
  cudaFree(memory);
}

std::byte* CudaDevice::allocate_host(int64_t bytes) {
  void* memory = nullptr;
  check_cuda(cudaMallocHost(&memory, static_cast<size_t>(bytes)), "cudaMallocHost");
  return static_cast<std::byte*>(memory);
}

void CudaDevice::release_host(std::byte* memory) {
  cudaFreeHost(memory);
}

int64_t CudaDevice::free_bytes() const {
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

void CudaDevice::copy(Queue queue, void* to, const void* from, int64_t bytes) {
  if (bytes == 0 || to == from) return;
  check_cuda(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream(queue)),
      "cudaMemcpyAsync");
}

void CudaDevice::fill(Queue queue, void* to, uint8_t byte, int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemsetAsync(to, byte, static_cast<size_t>(bytes), stream(queue)),
             "cudaMemsetAsync");
}

Device::Mark CudaDevice::make_mark(Queue queue, bool with_time) {
  if (graphs_.makes_marks()) return graphs_.mark(stream(queue), with_time);
  const Mark mark = ring_.take();
  check_cuda(cudaEventRecord(ring_.event(mark), stream(queue)), "cudaEventRecord");
  return mark;
}

void CudaDevice::follow(Queue queue, Mark mark) {
  if (graphs_.launching() || ring_.is_old(mark)) return;
  check_cuda(cudaStreamWaitEvent(stream(queue), ring_.event(mark), 0), "cudaStreamWaitEvent");
}

bool CudaDevice::reached(Mark mark) {
  if (ring_.is_old(mark)) return true;
  const cudaError_t status = cudaEventQuery(ring_.event(mark));
  if (status == cudaErrorNotReady) return false;
  check_cuda(status, "cudaEventQuery");
  return true;
}

void CudaDevice::wait(Mark mark) {
  if (ring_.is_old(mark)) return;
  check_cuda(cudaEventSynchronize(ring_.event(mark)), "cudaEventSynchronize");
}

void CudaDevice::enter(const char* name) {
  nvtxRangePushA(name);
}

void CudaDevice::leave() {
  nvtxRangePop();
}

double CudaDevice::seconds_between(Mark earlier, Mark later) {
  float milliseconds = 0.0f;
  check_cuda(cudaEventElapsedTime(&milliseconds, ring_.event(earlier), ring_.event(later)),
             "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

}  // namespace memwall::cuda
