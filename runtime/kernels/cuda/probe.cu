#include "runtime/kernels/cuda/probe.h"

namespace memwall::cuda {
namespace {

__global__ void probe() {}

}  // namespace

bool has_code() {
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe);
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();  // the caller says it
    return false;
  }
  check_cuda(status, "cudaFuncGetAttributes");
  return true;
}

}  // namespace memwall::cuda
