// What this machine is, for a run's record and the cost model.
#pragma once

#include <string>

namespace memwall {

// Instruction set and library versions that the bits of results depend on, e.g.
// "avx512f avx2 fma compiled for native, 64-byte registers; oneDNN 2.6.3".
std::string cpu_features();

// FLOP/s of FP32 products of 512 x 768 x 768 on `threads` threads, measured for about 0.2 s.
double measure_gemm_flops(int threads);

}  // namespace memwall
