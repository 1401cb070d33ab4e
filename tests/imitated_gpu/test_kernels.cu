#include <cuda_runtime.h>

#include "tests/imitated_gpu/kernel_binders.h"
#include "tests/imitated_gpu/test_kernels.h"

namespace memwall::imitated::test {
namespace {

template <class Number>
__global__ void affine(Number* to, const Number* from, double factor, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) to[i] = static_cast<Number>(factor) * from[i] + 1;
}

__global__ void without_binder() {}

std::function<void()> bind_affine(void** arguments, unsigned grid, unsigned block) {
  float* to = *static_cast<float**>(arguments[0]);
  const float* from = *static_cast<const float**>(arguments[1]);
  const double factor = *static_cast<double*>(arguments[2]);
  const int count = *static_cast<int*>(arguments[3]);
  const int threads = static_cast<int>(grid * block);
  return [=] {
    for (int i = 0; i < count && i < threads; ++i) to[i] = static_cast<float>(factor) * from[i] + 1;
  };
}

const void* affine_function() {
  return reinterpret_cast<const void*>(&affine<float>);
}

[[maybe_unused]] const bool registered = [] {
  register_kernel(affine_function(), bind_affine);
  return true;
}();

}  // namespace

cudaError_t launch_affine(float* to, const float* from, double factor, int count,
                          cudaStream_t stream) {
  affine<<<(count + 127) / 128, 128, 0, stream>>>(to, from, factor, count);
  return cudaGetLastError();
}

cudaError_t launch_affine_as(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
  affine<float><<<grid, block, shared_bytes, stream>>>(nullptr, nullptr, 1.0, 0);
  return cudaGetLastError();
}

cudaError_t allow_shared(int bytes) {
  return cudaFuncSetAttribute(&affine<float>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

cudaError_t launch_without_binder(cudaStream_t stream) {
  without_binder<<<1, 32, 0, stream>>>();
  return cudaGetLastError();
}

}  // namespace memwall::imitated::test
