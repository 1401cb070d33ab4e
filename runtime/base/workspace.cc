#include "runtime/base/workspace.h"

#include "runtime/base/gemm_panels.h"
#include "runtime/base/math.h"

namespace memwall {

int64_t embedding_grad_workspace_bytes(int64_t table_rows, int64_t tokens) {
  return (table_rows + 1 + tokens) * size_of(DType::kI32);
}

int64_t device_embedding_grad_workspace_bytes(int64_t table_rows, int64_t tokens) {
  return (2 * table_rows + tokens) * size_of(DType::kI32);
}

int64_t sum_workspace_bytes(int64_t elements, int64_t parts) {
  return parts * ceil_div(elements / parts, kSumBlock) * size_of(DType::kF64);
}

int64_t block_sums_workspace_bytes(int64_t rows, int64_t columns, DType dtype) {
  return ceil_div(rows, kRowBlock) * columns * size_of(accumulator_of(dtype));
}

int64_t gemm_workspace_bytes(const GemmAttributes& g, DType a, DType b, DType c) {
  if (c == DType::kF64) return 0;
  if (has_transposed_result(g)) return gemm_panels(transposed(g), b, a, c).bytes();
  return gemm_panels(g, a, b, c).bytes();
}

bool sums_batch_in_fp32(const GemmAttributes& g, DType c) {
  return g.c.batch == 0 && g.batch > 1 && c != accumulator_of(c);
}

int64_t device_gemm_workspace_bytes(const GemmAttributes& g, DType c) {
  const int64_t sum = sums_batch_in_fp32(g, c) ? g.m * g.n * size_of(DType::kF32) : 0;
  return kDeviceGemmWorkspaceBytes + sum;
}

}  // namespace memwall
