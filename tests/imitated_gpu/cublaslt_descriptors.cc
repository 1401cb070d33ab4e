// Descriptors and preferences of cuBLASLt. An attribute that is not imitated is refused.
#include "tests/imitated_gpu/cublaslt_descriptors.h"

#include <cstring>

#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

cublasStatus_t initialize(cublasLtMatrixLayout_t layout, cudaDataType_t type, uint64_t rows,
                          uint64_t columns, int64_t leading) {
  std::memset(layout, 0, sizeof(*layout));
  fields(layout) = {type, CUBLASLT_ORDER_COL, rows, columns, leading, 0, 1};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t initialize(cublasLtMatmulDesc_t operation, cublasComputeType_t compute,
                          cudaDataType_t scale) {
  std::memset(operation, 0, sizeof(*operation));
  fields(operation) = {compute,
                       scale,
                       CUBLAS_OP_N,
                       CUBLAS_OP_N,
                       CUBLAS_OP_N,
                       CUBLASLT_POINTER_MODE_HOST,
                       CUBLASLT_EPILOGUE_DEFAULT,
                       -1,
                       nullptr,
                       0,
                       -1,
                       nullptr,
                       0,
                       0};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t initialize(cublasLtMatmulPreference_t preference) {
  std::memset(preference, 0, sizeof(*preference));
  fields(preference) = {0, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}

template <class Field>
cublasStatus_t set(Field& field, const void* buffer, size_t bytes) {
  if (buffer == nullptr || bytes != sizeof(Field)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, buffer, sizeof(Field));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set(LtLayout& layout, cublasLtMatrixLayoutAttribute_t name, const void* buffer,
                   size_t bytes) {
  switch (name) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return set(layout.type, buffer, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(layout.order, buffer, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return set(layout.rows, buffer, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return set(layout.columns, buffer, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD: return set(layout.leading, buffer, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(layout.batches, buffer, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return set(layout.batch_stride, buffer, bytes);
    default: complain("matrix layout attribute %d", name); return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t set(LtOperation& operation, cublasLtMatmulDescAttributes_t name, const void* buffer,
                   size_t bytes) {
  int32_t ignored = 0;
  switch (name) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE: return set(operation.compute, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE: return set(operation.scale, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return set(operation.pointer_mode, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(operation.transpose_a, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(operation.transpose_b, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSC: return set(operation.transpose_c, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(operation.epilogue, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(operation.bias, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return set(operation.bias_batch_stride, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(operation.bias_type, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE: return set(operation.aux_type, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(operation.aux, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(operation.aux_leading, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
      return set(operation.aux_batch_stride, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET: return set(ignored, buffer, bytes);
    default: complain("matmul attribute %d", name); return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t set(LtPreference& preference, cublasLtMatmulPreferenceAttributes_t name,
                   const void* buffer, size_t bytes) {
  uint32_t ignored = 0;
  switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(preference.max_workspace_bytes, buffer, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(preference.alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], buffer,
                 bytes);
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(ignored, buffer, bytes);
    default: complain("matmul preference %d", name); return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

template <class Opaque>
cublasStatus_t destroy(const char* name, Opaque* descriptor) {
  return lt_api(name, [&](Lock&) {
    delete descriptor;
    return CUBLAS_STATUS_SUCCESS;
  });
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t leading) {
  if (bytes < sizeof(*layout)) return CUBLAS_STATUS_INVALID_VALUE;
  return initialize(layout, type, rows, columns, leading);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t leading) {
  return lt_api("cublasLtMatrixLayoutCreate", [&](Lock&) {
    return initialize(*layout = new cublasLtMatrixLayoutOpaque_t, type, rows, columns, leading);
  });
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return destroy("cublasLtMatrixLayoutDestroy", layout);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t name,
                                                const void* buffer, size_t bytes) {
  return lt_api("cublasLtMatrixLayoutSetAttribute",
                [&](Lock&) { return set(fields(layout), name, buffer, bytes); });
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t bytes,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  if (bytes < sizeof(*operation)) return CUBLAS_STATUS_INVALID_VALUE;
  return initialize(operation, compute, scale);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
  return lt_api("cublasLtMatmulDescCreate", [&](Lock&) {
    return initialize(*operation = new cublasLtMatmulDescOpaque_t, compute, scale);
  });
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return destroy("cublasLtMatmulDescDestroy", operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void* buffer, size_t bytes) {
  return lt_api("cublasLtMatmulDescSetAttribute",
                [&](Lock&) { return set(fields(operation), name, buffer, bytes); });
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t bytes) {
  if (bytes < sizeof(*preference)) return CUBLAS_STATUS_INVALID_VALUE;
  return initialize(preference);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return lt_api("cublasLtMatmulPreferenceCreate", [&](Lock&) {
    return initialize(*preference = new cublasLtMatmulPreferenceOpaque_t);
  });
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy("cublasLtMatmulPreferenceDestroy", preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void* buffer, size_t bytes) {
  return lt_api("cublasLtMatmulPreferenceSetAttribute",
                [&](Lock&) { return set(fields(preference), name, buffer, bytes); });
}

}  // extern "C"
