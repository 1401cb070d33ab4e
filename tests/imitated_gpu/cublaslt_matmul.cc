// The matrix product of cuBLASLt, and the choice of its algorithm. The imitated library is stricter
// than the real one where that is only undefined: an algorithm must come from
// cublasLtMatmulAlgoGetHeuristic for the same types, shapes and epilogue, pointers must be aligned
// as its preference said, and every matrix must lie inside one allocation of the stream's device.
#include <cstring>
#include <type_traits>

#include "tests/imitated_gpu/cublaslt_descriptors.h"
#include "tests/imitated_gpu/gemm.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

constexpr uint64_t kMagic = 0x6d656d77616c6c31;
constexpr uint64_t kWorkspaceBytes = uint64_t{4} << 20;  // what the first algorithm would like
constexpr uint64_t kWorkspaceAlignment = 256;
// Of algorithms: the first uses the workspace, the second needs none, the third is the first with
// sums of the two halves of k added last, and so with other bits.
constexpr uint64_t kWithWorkspace = 1, kWithoutWorkspace = 2, kInHalves = 3;

// Lies in cublasLtMatmulAlgo_t; plain bytes, which may be saved and sent to other ranks.
struct Algorithm {
  uint64_t magic;
  uint64_t workspace_bytes;
  uint64_t problem;  // hash_of
  uint64_t id;
  uint32_t alignment[4];
  uint32_t extra_alignment[2];  // of bias and aux, as their addresses were: up to 16 bytes
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

struct Problem {
  LtOperation operation;
  LtLayout a, b, c, d;
};

Problem problem_of(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  return {fields(operation), fields(a), fields(b), fields(c), fields(d)};
}

uint64_t hash_of(const Problem& problem) {
  uint64_t hash = 1469598103934665603u;
  const auto add = [&hash](uint64_t number) { hash = (hash ^ number) * 1099511628211u; };
  const LtOperation& operation = problem.operation;
  for (const int number :
       {static_cast<int>(operation.compute), static_cast<int>(operation.scale),
        static_cast<int>(operation.transpose_a), static_cast<int>(operation.transpose_b),
        static_cast<int>(operation.epilogue)}) {
    add(static_cast<uint64_t>(number));
  }
  add(static_cast<uint64_t>(operation.bias_batch_stride));
  add(static_cast<uint64_t>(operation.aux_leading));
  for (const LtLayout* layout : {&problem.a, &problem.b, &problem.c, &problem.d}) {
    add(static_cast<uint64_t>(layout->type));
    add(static_cast<uint64_t>(layout->order));
    add(layout->rows);
    add(layout->columns);
  }
  return hash;
}

// Type and strides of a matrix, transposed where asked.
Operand operand_of(const LtLayout& layout, cublasOperation_t transpose) {
  Operand operand;
  operand.type = layout.type;
  const bool by_column = layout.order == CUBLASLT_ORDER_COL;
  operand.row_stride = by_column ? 1 : layout.leading;
  operand.column_stride = by_column ? layout.leading : 1;
  if (transpose != CUBLAS_OP_N) std::swap(operand.row_stride, operand.column_stride);
  operand.batch_stride = layout.batch_stride;
  return operand;
}

// The types that cuBLASLt multiplies, of those imitated here.
bool types_supported(const Problem& p) {
  if (p.a.type != p.b.type || p.c.type != p.d.type) return false;
  if (p.operation.compute == CUBLAS_COMPUTE_64F) {
    return p.a.type == CUDA_R_64F && p.d.type == CUDA_R_64F && p.operation.scale == CUDA_R_64F;
  }
  const bool sums_are_fp32 = p.operation.compute == CUBLAS_COMPUTE_32F ||
                             p.operation.compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                             p.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!sums_are_fp32 || p.operation.scale != CUDA_R_32F) return false;
  const bool narrow = p.a.type == CUDA_R_16F || p.a.type == CUDA_R_16BF;
  return p.d.type == CUDA_R_32F ? narrow || p.a.type == CUDA_R_32F : narrow && p.d.type == p.a.type;
}

bool layout_valid(const LtLayout& layout) {
  if (layout.order != CUBLASLT_ORDER_COL && layout.order != CUBLASLT_ORDER_ROW) return false;
  const uint64_t least = layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.columns;
  return layout.rows > 0 && layout.columns > 0 && layout.batches > 0 && layout.leading > 0 &&
         static_cast<uint64_t>(layout.leading) >= least;
}

// Of double precision there are no epilogues; bias and aux have D's type; aux is by columns, its
// strides multiples of 8 elements (cublasLt.h), where it holds GELU's input.
cublasStatus_t epilogue(const Problem& p, Gemm& gemm) {
  const LtOperation& o = p.operation;
  switch (o.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT: return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_EPILOGUE_BIAS: gemm.has_bias = true; break;
    case CUBLASLT_EPILOGUE_GELU: gemm.gelu = true; break;
    case CUBLASLT_EPILOGUE_GELU_BIAS: gemm.has_bias = gemm.gelu = true; break;
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS: gemm.has_bias = gemm.gelu = gemm.writes_aux = true; break;
    case CUBLASLT_EPILOGUE_DGELU: gemm.gelu_slope = true; break;
    default: complain("epilogue %d", o.epilogue); return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (o.compute == CUBLAS_COMPUTE_64F) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto is_of_d = [&](int32_t type) { return type == -1 || type == p.d.type; };
  if (gemm.has_bias) {
    if (!is_of_d(o.bias_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    gemm.bias = {o.bias, p.d.type, 1, 0, o.bias_batch_stride};
  }
  if (gemm.writes_aux || gemm.gelu_slope) {
    if (!is_of_d(o.aux_type) || p.d.order != CUBLASLT_ORDER_COL) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (o.aux_leading < static_cast<int64_t>(p.d.rows) || o.aux_leading % 8 != 0 ||
        o.aux_batch_stride % 8 != 0) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    gemm.aux = {o.aux, p.d.type, 1, o.aux_leading, o.aux_batch_stride};
  }
  return CUBLAS_STATUS_SUCCESS;
}

// Shapes, strides and what else the pointers do not matter for.
cublasStatus_t shape(const Problem& p, Gemm& gemm) {
  const LtOperation& o = p.operation;
  for (const LtLayout* layout : {&p.a, &p.b, &p.c, &p.d}) {
    if (!layout_valid(*layout) || layout->batches != p.d.batches) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
  }
  const bool a_turned = o.transpose_a != CUBLAS_OP_N, b_turned = o.transpose_b != CUBLAS_OP_N;
  gemm.m = static_cast<int64_t>(p.d.rows);
  gemm.n = static_cast<int64_t>(p.d.columns);
  gemm.k = static_cast<int64_t>(a_turned ? p.a.rows : p.a.columns);
  gemm.batches = p.d.batches;
  const uint64_t m = p.d.rows, n = p.d.columns, k = static_cast<uint64_t>(gemm.k);
  if ((a_turned ? p.a.columns : p.a.rows) != m || (b_turned ? p.b.columns : p.b.rows) != k ||
      (b_turned ? p.b.rows : p.b.columns) != n || p.c.rows != m || p.c.columns != n) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!types_supported(p) || o.transpose_c != CUBLAS_OP_N ||
      o.pointer_mode != CUBLASLT_POINTER_MODE_HOST) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  gemm.a = operand_of(p.a, o.transpose_a);
  gemm.b = operand_of(p.b, o.transpose_b);
  gemm.c = operand_of(p.c, CUBLAS_OP_N);
  gemm.d = operand_of(p.d, CUBLAS_OP_N);
  return epilogue(p, gemm);
}

constexpr size_t kExtraAlignment = 16;

uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<uintptr_t>(address) | kExtraAlignment;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

cublasStatus_t fill(cublasLtMatmulHeuristicResult_t& result, const Algorithm& algorithm) {
  result = {};
  std::memcpy(&result.algo, &algorithm, sizeof(algorithm));
  result.workspaceSize = algorithm.workspace_bytes;
  result.state = CUBLAS_STATUS_SUCCESS;
  result.wavesCount = 1.0f;
  return CUBLAS_STATUS_SUCCESS;
}

Algorithm algorithm_of(const cublasLtMatmulAlgo_t& opaque) {
  Algorithm algorithm;
  std::memcpy(&algorithm, &opaque, sizeof(algorithm));
  return algorithm;
}

cublasStatus_t refuse(const char* why) {
  complain("cublasLtMatmul: %s", why);
  return CUBLAS_STATUS_INVALID_VALUE;
}

// From the first element of an operand (rows, columns) of all batches to the last.
size_t bytes_of(const Operand& operand, int64_t rows, int64_t columns, int64_t batches) {
  const int64_t last = (rows - 1) * operand.row_stride + (columns - 1) * operand.column_stride +
                       (batches - 1) * operand.batch_stride;
  return static_cast<size_t>(last + 1) * element_bytes(operand.type);
}

// Whether they lie in one allocation of the device.
bool lies_on_device(const Operand& operand, int64_t rows, int64_t columns, int64_t batches,
                    int device) {
  return process().memory.on_device(operand.data, bytes_of(operand, rows, columns, batches),
                                    device);
}

bool overlap(const Operand& x, const Operand& y, const Gemm& gemm) {
  const auto begin = [](const Operand& o) { return reinterpret_cast<uintptr_t>(o.data); };
  const auto end = [&](const Operand& o) {
    return begin(o) + bytes_of(o, gemm.m, gemm.n, gemm.batches);
  };
  return begin(x) < end(y) && begin(y) < end(x);
}

// What the epilogue reads or writes beside the matrices.
cublasStatus_t check_extra(const Gemm& gemm, const Algorithm& algorithm, int device) {
  const bool has_aux = gemm.writes_aux || gemm.gelu_slope;
  if (gemm.has_bias && !lies_on_device(gemm.bias, gemm.m, 1, gemm.batches, device)) {
    return refuse("the bias does not lie inside one allocation of the stream's device");
  }
  if (has_aux && !lies_on_device(gemm.aux, gemm.m, gemm.n, gemm.batches, device)) {
    return refuse("aux does not lie inside one allocation of the stream's device");
  }
  if (has_aux && overlap(gemm.aux, gemm.d, gemm)) return refuse("aux and D overlap");
  if ((gemm.has_bias && alignment_of(gemm.bias.data) < algorithm.extra_alignment[0]) ||
      (has_aux && alignment_of(gemm.aux.data) < algorithm.extra_alignment[1])) {
    return refuse("bias or aux is aligned less than when the algorithm was chosen");
  }
  if (has_aux && alignment_of(gemm.aux.data) < kExtraAlignment) {
    return refuse("aux is not aligned to 16 bytes");
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t check_pointers(const Gemm& gemm, const Algorithm& algorithm, const void* workspace,
                              uint64_t workspace_bytes, int device) {
  const Operand* operands[] = {&gemm.a, &gemm.b, &gemm.c, &gemm.d};
  const int64_t rows[] = {gemm.m, gemm.k, gemm.m, gemm.m};
  const int64_t columns[] = {gemm.k, gemm.n, gemm.n, gemm.n};
  for (int i = 0; i < 4; ++i) {
    const bool is_read = i != 2 || gemm.beta != 0.0;
    if (is_read && !lies_on_device(*operands[i], rows[i], columns[i], gemm.batches, device)) {
      return refuse("a matrix does not lie inside one allocation of the stream's device");
    }
    if (is_read && reinterpret_cast<uintptr_t>(operands[i]->data) % algorithm.alignment[i] != 0) {
      return refuse("a matrix is aligned less than the heuristic's preference said");
    }
  }
  if (const cublasStatus_t status = check_extra(gemm, algorithm, device)) return status;
  if (gemm.c.data == gemm.d.data && gemm.beta != 0.0 &&
      (gemm.c.row_stride != gemm.d.row_stride || gemm.c.column_stride != gemm.d.column_stride ||
       gemm.c.batch_stride != gemm.d.batch_stride)) {
    return refuse("C and D are one matrix with two layouts");
  }
  if (workspace_bytes < algorithm.workspace_bytes) {
    return refuse("the workspace is smaller than the algorithm's");
  }
  if (reinterpret_cast<uintptr_t>(workspace) % kWorkspaceAlignment != 0) {
    return refuse("the workspace is not aligned to 256 bytes");
  }
  if (workspace_bytes > 0 && !process().memory.on_device(workspace, workspace_bytes, device)) {
    return refuse("the workspace does not lie inside one allocation of the stream's device");
  }
  return CUBLAS_STATUS_SUCCESS;
}

double scalar(const void* value, cudaDataType_t type) {
  return type == CUDA_R_64F ? *static_cast<const double*>(value)
                            : double{*static_cast<const float*>(value)};
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return lt_api("cublasLtCreate", [&](Lock&) {
    *handle = reinterpret_cast<cublasLtHandle_t>(new int(current_device()));
    return CUBLAS_STATUS_SUCCESS;
  });
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return lt_api("cublasLtDestroy", [&](Lock&) {
    delete reinterpret_cast<int*>(handle);
    return CUBLAS_STATUS_SUCCESS;
  });
}
size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}
size_t cublasLtGetCudartVersion() {
  return CUDART_VERSION;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_UNKNOWN";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return cublasLtGetStatusName(status);
}

// At most two: one that uses the workspace, and one that needs none.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  return lt_api("cublasLtMatmulAlgoGetHeuristic", [&](Lock&) {
    *returned = 0;
    if (requested < 1 || preference == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
    const Problem problem = problem_of(operation, a, b, c, d);
    Gemm gemm;
    if (const cublasStatus_t status = shape(problem, gemm)) return status;
    const LtPreference& wanted = fields(preference);
    Algorithm algorithm{kMagic,
                        std::min(wanted.max_workspace_bytes, kWorkspaceBytes),
                        hash_of(problem),
                        settings().products_in_halves ? kInHalves : kWithWorkspace,
                        {},
                        {alignment_of(gemm.bias.data), alignment_of(gemm.aux.data)}};
    std::memcpy(algorithm.alignment, wanted.alignment, sizeof(algorithm.alignment));
    for (const uint32_t alignment : wanted.alignment) {
      if (alignment == 0) return CUBLAS_STATUS_INVALID_VALUE;
    }
    fill(results[(*returned)++], algorithm);
    if (requested > 1 && algorithm.workspace_bytes > 0) {
      algorithm.workspace_bytes = 0;
      algorithm.id = kWithoutWorkspace;
      fill(results[(*returned)++], algorithm);
    }
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  return lt_api("cublasLtMatmulAlgoCheck", [&](Lock&) {
    const Problem problem = problem_of(operation, a, b, c, d);
    Gemm gemm;
    if (const cublasStatus_t status = shape(problem, gemm)) return status;
    const Algorithm algorithm = algorithm_of(*algo);
    if (algorithm.magic != kMagic) return CUBLAS_STATUS_INVALID_VALUE;
    if (algorithm.problem != hash_of(problem) ||
        alignment_of(gemm.bias.data) < algorithm.extra_alignment[0] ||
        alignment_of(gemm.aux.data) < algorithm.extra_alignment[1]) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    // The real one leaves result->algo alone.
    const cublasLtMatmulAlgo_t before = result->algo;
    fill(*result, algorithm);
    result->algo = before;
    result->workspaceSize += settings().more_workspace;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t name,
                                                    void* buffer, size_t bytes, size_t* written) {
  return lt_api("cublasLtMatmulAlgoConfigGetAttribute", [&](Lock&) {
    const int32_t value =
        name == CUBLASLT_ALGO_CONFIG_ID ? static_cast<int32_t>(algorithm_of(*algo).id) : 0;
    if (bytes < sizeof(value)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(buffer, &value, sizeof(value));
    if (written != nullptr) *written = sizeof(value);
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream_handle) {
  return lt_api("cublasLtMatmul", [&](Lock&) {
    if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Problem problem = problem_of(operation, a_layout, b_layout, c_layout, d_layout);
    Gemm gemm;
    if (const cublasStatus_t status = shape(problem, gemm)) return status;
    const StreamPtr stream = find_stream(stream_handle);
    if (stream == nullptr || stream->device != current_device()) {
      return refuse("the stream is not one of the current device");
    }
    if (algo == nullptr || algorithm_of(*algo).magic != kMagic) {
      return refuse("the algorithm does not come from cublasLtMatmulAlgoGetHeuristic");
    }
    const Algorithm algorithm = algorithm_of(*algo);
    if (algorithm.problem != hash_of(problem)) return refuse("the algorithm is another product's");
    gemm.in_halves = algorithm.id == kInHalves;
    gemm.tf32 =
        gemm.a.type == CUDA_R_32F && problem.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    gemm.a.data = a;
    gemm.b.data = b;
    gemm.c.data = c;
    gemm.d.data = d;
    gemm.alpha = scalar(alpha, problem.operation.scale);
    gemm.beta = scalar(beta, problem.operation.scale);
    if (const cublasStatus_t status =
            check_pointers(gemm, algorithm, workspace, workspace_bytes, stream->device)) {
      return status;
    }
    Work work = [gemm, workspace, bytes = algorithm.workspace_bytes] {
      if (bytes > 0) std::memset(workspace, 0xFF, bytes);
      run(gemm);
      return true;
    };
    process().issue(stream, std::move(work), {{{"cublasLtMatmul", 0}}, nullptr});
    return CUBLAS_STATUS_SUCCESS;
  });
}

}  // extern "C"
