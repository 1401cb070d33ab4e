// FP32 products by the library that the build was configured with (MEMWALL_BLAS): CMake compiles
// onednn/sgemm.cc or openblas/sgemm.cc. All matrices are row-major, as BLAS names them: op(a) (m,
// k), op(b) (k, n), c (m, n), where 'T' transposes and ld... are the elements between rows as
// stored.
#pragma once

#include <cstdint>

namespace memwall::cpu {

struct Sgemm {
  char transpose_a, transpose_b;  // 'N' or 'T'
  int64_t m, n, k;
  float alpha;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float beta;
  float* c;
  int64_t ldc;
};

// c = alpha op(a) op(b) + beta c, on as many threads as OpenMP would start, one inside a parallel
// region. The bits do not depend on that number: with oneDNN as far as k <= kGemmDepth
// (runtime/base/gemm_panels.h) makes them so, with OpenBLAS because tiles are cut by the shape
// alone. Throws Error where the library refuses.
void sgemm(const Sgemm& call);

// The same by one call of the library, which divides the work as it likes: to measure against.
void whole_sgemm(const Sgemm& call);

}  // namespace memwall::cpu
