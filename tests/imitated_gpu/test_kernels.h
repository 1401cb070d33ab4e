// Kernels for the tests of the imitated GPUs.
#pragma once

#include <cuda_runtime_api.h>

namespace memwall::imitated::test {

// to[i] = factor * from[i] + 1. One argument of each size, so that their order shows.
cudaError_t launch_affine(float* to, const float* from, double factor, int count,
                          cudaStream_t stream);
// The same with another geometry.
cudaError_t launch_affine_as(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream);
cudaError_t allow_shared(int bytes);

cudaError_t launch_without_binder(cudaStream_t stream);

}  // namespace memwall::imitated::test
