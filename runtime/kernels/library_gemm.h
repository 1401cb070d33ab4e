// A product as the library alone computes it: what kernels are measured against.
#pragma once

#include "runtime/base/op.h"

namespace memwall {

// c = alpha a b (+ c where `accumulate`) in FP32 by one whole call of its sgemm for each of the
// batch, divided among threads as the library likes: neither cut in k nor into tiles. What is
// contiguous in neither rows nor columns, and so no operand of the library, is taken for a
// row-major matrix in its place: the same arithmetic on other elements. `g`: limited to the
// iteration (gemm.h), not FP64.
void library_gemm(const GemmAttributes& g, const float* a, const float* b, float* c,
                  bool accumulate, int threads);

}  // namespace memwall
