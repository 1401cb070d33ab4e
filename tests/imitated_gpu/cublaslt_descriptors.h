// What the imitated cuBLASLt keeps in its caller's opaque descriptors. They may be copied bytewise
// and live on the caller's stack (cublasLtMatmulDescInit and its like).
#pragma once

#include <cublasLt.h>

#include "tests/imitated_gpu/process.h"

namespace memwall::imitated {

struct LtLayout {
  cudaDataType_t type;
  cublasLtOrder_t order;
  uint64_t rows, columns;
  int64_t leading;
  int64_t batch_stride;  // elements
  int32_t batches;
};

struct LtOperation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t transpose_a, transpose_b, transpose_c;
  cublasLtPointerMode_t pointer_mode;
  cublasLtEpilogue_t epilogue;
  int32_t bias_type;  // a cudaDataType_t; -1: D's
  const void* bias;
  int64_t bias_batch_stride;
  int32_t aux_type;  // as bias_type
  void* aux;         // GELU's input: written, or read by its gradient
  int64_t aux_leading, aux_batch_stride;
};

struct LtPreference {
  uint64_t max_workspace_bytes;
  uint32_t alignment[4];  // of A, B, C and D, in bytes
};

static_assert(sizeof(LtLayout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(LtOperation) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(LtPreference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));

inline LtLayout& fields(cublasLtMatrixLayout_t layout) {
  return *reinterpret_cast<LtLayout*>(layout);
}
inline LtOperation& fields(cublasLtMatmulDesc_t operation) {
  return *reinterpret_cast<LtOperation*>(operation);
}
inline LtPreference& fields(cublasLtMatmulPreference_t preference) {
  return *reinterpret_cast<LtPreference*>(preference);
}

// body(Lock&) -> cublasStatus_t, under the library's lock.
template <class Body>
cublasStatus_t lt_api(const char* name, Body body) {
  if (inside_work()) return CUBLAS_STATUS_NOT_SUPPORTED;
  Lock lock(process().mutex);
  if (enter(name) != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  process().scheduler.drift();
  const cublasStatus_t status = body(lock);
  process().scheduler.drift();
  return status;
}

}  // namespace memwall::imitated
