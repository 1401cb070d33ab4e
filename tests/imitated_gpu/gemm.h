// Reference matrix product of the cuBLASLt double:
//   D = f(alpha * A B + beta * C + bias), A (m, k), B (k, n), C and D (m, n), batch by batch.
// f is nothing, GELU in its tanh form, whose input may be stored in `aux` besides, rounded to its
// type, or a product with GELU's slope at what lies in `aux`.
// Each element is a sum of fused multiply-adds in the order of k, in FP32 (FP64 for FP64 matrices),
// and is rounded once to D's type; in halves, it is two such sums, of the halves of k. C is not
// read where beta is 0; it may be D itself.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstdint>

namespace memwall::imitated {

struct Operand {
  const void* data = nullptr;
  cudaDataType_t type = CUDA_R_32F;  // 16F, 16BF, 32F or 64F
  int64_t row_stride = 0;            // elements from (i, j) to (i + 1, j)
  int64_t column_stride = 0;
  int64_t batch_stride = 0;
};

struct Gemm {
  int64_t m = 0, n = 0, k = 0, batches = 1;
  Operand a, b, c;
  Operand d;           // d.data is written
  double alpha = 1.0;  // FP32 values where the sums are FP32
  double beta = 0.0;
  bool has_bias = false;
  Operand bias;  // (m), row_stride 1
  bool gelu = false;
  bool writes_aux = false, gelu_slope = false;
  Operand aux;  // (m, n)
  bool in_halves = false;
  bool tf32 = false;  // operands of FP32 are rounded to 10 bits of fraction
};

size_t element_bytes(cudaDataType_t type);  // 0: not a type of these
void run(const Gemm& gemm);

}  // namespace memwall::imitated
