// What this machine is, for a run's record and the cost model.
#pragma once

#include <string>

namespace memwall {

// Instruction set and library versions that the bits of results depend on, e.g.
// "avx512f avx2 fma compiled for native, 64-byte registers; oneDNN 2.6.3".
std::string cpu_features();

// The library of FP32 products that this build uses, with whatever its bits depend on: "oneDNN
// 2.6.3", or "OpenBLAS 0.3.21 SkylakeX" with the processor that it works for.
std::string gemm_library();

// Why that library will be slow here and what to do about it, one sentence; "" where it will not.
std::string gemm_library_warning();

// FLOP/s of FP32 products of 512 x 768 x 768 on `threads` threads, measured for about 0.2 s.
double measure_gemm_flops(int threads);

}  // namespace memwall
