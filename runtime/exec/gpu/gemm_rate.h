// The matrix rate of a GPU, for utilisation.
#pragma once

#include "runtime/base/device.h"
#include "runtime/base/dtype.h"

namespace memwall::cuda {

// FLOP/s of square products of `dtype` by cuBLASLt, on random numbers.
double measure_gemm_flops(Device& device, DType dtype);

}  // namespace memwall::cuda
