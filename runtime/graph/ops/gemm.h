// Products of matrices, batched, with any strides: every transpose, head and part of q/k/v is a
// choice of strides.
#pragma once

#include "runtime/graph/graph.h"

namespace memwall {

// Plain row-major c (m, n) = a (m, k) b (k, n).
GemmAttributes plain_gemm(int64_t m, int64_t n, int64_t k);

// The product's cotangents: da of attributes `f` reads (dc, b), db reads (dc, a), in that order.
GemmAttributes gemm_grad_a(const GemmAttributes& f);
// Written as the transpose of db where b itself is stored transposed, so that results are always
// row-major, and what a causal chunk leaves out is rows of them. `swapped`: the operands are
// (dc, a), else (a, dc).
GemmAttributes gemm_grad_b(const GemmAttributes& f, bool& swapped);

}  // namespace memwall
