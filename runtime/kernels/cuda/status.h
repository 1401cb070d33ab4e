// Statuses of CUDA's libraries as errors.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <string>

#include "runtime/base/error.h"

namespace memwall::cuda {

inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Error(std::string("CUDA: ") + call + ": " + cudaGetErrorString(status) + " (" +
              cudaGetErrorName(status) + ")");
}

inline void check_cublas(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(std::string("cuBLASLt: ") + call + ": " + cublasLtGetStatusString(status));
}

}  // namespace memwall::cuda
