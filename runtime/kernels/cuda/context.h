// What kernels are started with on the GPU.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <memory>

#include "runtime/kernels/cuda/status.h"
#include "runtime/kernels/kernel.h"

namespace memwall::cuda {

class GemmCache;         // gemm.cu
class AttentionLibrary;  // attention_library.h

// Of one device and its compute stream. Not owned: the stream and the handle.
struct Context {
  cudaStream_t stream = nullptr;
  cublasLtHandle_t blas = nullptr;
  std::shared_ptr<GemmCache> products;
  std::shared_ptr<AttentionLibrary> attentions;
  bool tf32 = false;  // of FP32 operands
};

inline Context& context_of(const KernelCall& call) {
  check(call.context != nullptr, "a kernel of the GPU without its stream");
  return *static_cast<Context*>(call.context);
}

}  // namespace memwall::cuda
