// c = alpha a b (+ c) by cuBLASLt. 16-bit operands use tensor cores and are added in FP32; FP32
// products are of FP32 arithmetic, or of TF32 where the configuration says so.
//
// cuBLASLt stores matrices by columns: c by rows is its c^T = b^T a^T. The algorithm is its first
// proposal for the shape, strides and types of the product; the workspace is the plan's.
#include <map>
#include <utility>

#include "runtime/base/gemm_panels.h"
#include "runtime/base/workspace.h"
#include "runtime/kernels/gemm.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/panel.h"

namespace memwall::cuda {
namespace {

// On Hopper cuBLASLt's kernels need this, though it is not documented; plans align to 64 bytes.
constexpr size_t kWorkspaceAlignment = 256;
constexpr size_t kLibraryWorkspaceBytes =
    static_cast<size_t>(kDeviceGemmWorkspaceBytes) - kWorkspaceAlignment;

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF16: return CUDA_R_16F;
    case DType::kBF16: return CUDA_R_16BF;
    case DType::kF32: return CUDA_R_32F;
    case DType::kF64: return CUDA_R_64F;
    default: throw InternalError("no product of " + std::string(name_of(dtype)));
  }
}

// A matrix as cuBLASLt sees it: by columns.
struct Side {
  DType dtype;
  bool transpose;
  int64_t rows, columns, leading, batch_stride;
  auto operator<=>(const Side&) const = default;
  // Of its address, in bytes: what its strides keep. An algorithm is chosen for that, so that the
  // choice does not depend on where a matrix lies.
  int64_t alignment() const {
    const int64_t strides = (leading | batch_stride) * size_of(dtype);
    return strides % 16 == 0 ? 16 : size_of(dtype);
  }
};

struct Key {
  Side left, right, result;
  int64_t m, n, k, batch;
  bool tf32;
  auto operator<=>(const Key&) const = default;
};

class Layout {
 public:
  Layout(const Side& side, int64_t batch) {
    check_cublas(cublasLtMatrixLayoutCreate(&layout_, data_type(side.dtype),
                                            static_cast<uint64_t>(side.rows),
                                            static_cast<uint64_t>(side.columns), side.leading),
                 "cublasLtMatrixLayoutCreate");
    if (batch > 1) {
      set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
      set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, side.batch_stride);
    }
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  template <class T>
  void set(cublasLtMatrixLayoutAttribute_t which, T value) {
    check_cublas(cublasLtMatrixLayoutSetAttribute(layout_, which, &value, sizeof(value)),
                 "cublasLtMatrixLayoutSetAttribute");
  }
  cublasLtMatrixLayout_t layout_ = nullptr;
};

}  // namespace

// A product that is ready to be started.
class PreparedProduct {
 public:
  PreparedProduct(cublasLtHandle_t blas, const Key& key)
      : left_(key.left, key.batch), right_(key.right, key.batch), result_(key.result, key.batch) {
    const bool wide = key.result.dtype == DType::kF64;
    const cublasComputeType_t arithmetic = wide       ? CUBLAS_COMPUTE_64F
                                           : key.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                      : CUBLAS_COMPUTE_32F;
    check_cublas(cublasLtMatmulDescCreate(&product_, arithmetic, wide ? CUDA_R_64F : CUDA_R_32F),
                 "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, key.left.transpose);
    set(CUBLASLT_MATMUL_DESC_TRANSB, key.right.transpose);
    choose(blas, key);
  }
  ~PreparedProduct() { cublasLtMatmulDescDestroy(product_); }
  PreparedProduct(const PreparedProduct&) = delete;
  PreparedProduct& operator=(const PreparedProduct&) = delete;

  template <class T>
  void start(const Context& context, T alpha, const void* left, const void* right, T beta,
             void* result, std::span<std::byte> workspace) const {
    check_cublas(cublasLtMatmul(context.blas, product_, &alpha, left, left_.get(), right,
                                right_.get(), &beta, result, result_.get(), result, result_.get(),
                                &chosen_.algo, workspace.data(), workspace.size(), context.stream),
                 "cublasLtMatmul");
  }

 private:
  void set(cublasLtMatmulDescAttributes_t which, bool transpose) {
    const cublasOperation_t value = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
    check_cublas(cublasLtMatmulDescSetAttribute(product_, which, &value, sizeof(value)),
                 "cublasLtMatmulDescSetAttribute");
  }

  void choose(cublasLtHandle_t blas, const Key& key) {
    cublasLtMatmulPreference_t preference = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, auto value) {
      check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, which, &value, sizeof(value)),
                   "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kLibraryWorkspaceBytes));
    // Parts of a product are added in FP32 too.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    const auto alignment = [](const Side& side) { return static_cast<uint32_t>(side.alignment()); };
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(key.left));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(key.right));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(key.result));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(key.result));
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(blas, product_, left_.get(), right_.get(), result_.get(),
                                       result_.get(), preference, 1, &chosen_, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    check_cublas(status, "cublasLtMatmulAlgoGetHeuristic");
    check(found > 0 && chosen_.workspaceSize <= kLibraryWorkspaceBytes,
          "cuBLASLt has no algorithm for this product within the planned workspace");
  }

  Layout left_, right_, result_;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatmulHeuristicResult_t chosen_{};
};

class GemmCache {
 public:
  const PreparedProduct& of(cublasLtHandle_t blas, const Key& key) {
    auto& found = products_[key];
    if (!found) found = std::make_unique<PreparedProduct>(blas, key);
    return *found;
  }

 private:
  std::map<Key, std::unique_ptr<PreparedProduct>> products_;
};

std::shared_ptr<GemmCache> make_gemm_cache() {
  return std::make_shared<GemmCache>();
}

}  // namespace memwall::cuda

namespace memwall::launchers {
namespace {

using cuda::Key;
using cuda::Side;

// Rows [first, m) of every batch of c.
template <class T>
struct ZeroRows {
  T* c;
  Strides strides;
  int64_t first, rows, columns;  // rows: of a batch, that are set

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    T* const to = c + row / rows * strides.batch + (first + row % rows) * strides.row;
    const int64_t step = strides.column;
    team.each(0, columns, [&](auto at) {
      for (int64_t j = at.first; j < at.first + kLanes && j < columns; ++j) to[j * step] = T(0.0f);
    });
  }
};

// The operand (rows, columns) with these strides, stored by columns: its transpose where its rows
// are contiguous.
Side side_of(const Strides& s, DType dtype, int64_t rows, int64_t columns, const char* which) {
  const auto layout = layout_of(s, rows, columns);
  check(layout.has_value(), "cuBLASLt takes no operand without a contiguous dimension", which);
  const bool by_rows = layout->transpose == 'N';
  return {.dtype = dtype,
          .transpose = !by_rows,
          .rows = by_rows ? columns : rows,
          .columns = by_rows ? rows : columns,
          .leading = layout->leading,
          .batch_stride = s.batch};
}

// To c, of strides g.c: the call's result, or what it is formed in.
// What cuBLASLt gets of the planned workspace, as aligned as it needs it.
std::span<std::byte> library_workspace(const KernelCall& call) {
  const auto address = reinterpret_cast<uintptr_t>(call.workspace.data());
  const auto skipped =
      (cuda::kWorkspaceAlignment - address % cuda::kWorkspaceAlignment) % cuda::kWorkspaceAlignment;
  return call.workspace.subspan(skipped, cuda::kLibraryWorkspaceBytes);
}

template <class T>
void multiply(const KernelCall& call, const GemmAttributes& g, const Tensor& a, const Tensor& b,
              const Tensor& c) {
  const cuda::Context& context = cuda::context_of(call);
  check(a.dtype == b.dtype, "a product of operands of two types");
  const bool sums_batch = g.c.batch == 0 && g.batch > 1;
  Key key{.left = side_of(g.b, b.dtype, g.k, g.n, "b"),
          .right = side_of(g.a, a.dtype, g.m, g.k, "a"),
          .result = side_of(g.c, c.dtype, g.m, g.n, "c"),
          .m = g.m,
          .n = g.n,
          .k = g.k,
          .batch = sums_batch ? 1 : g.batch,
          .tf32 = context.tf32 && a.dtype == DType::kF32};
  check(!key.result.transpose, "gemm: a result that is stored by columns");
  const auto& product = context.products->of(context.blas, key);
  const auto at = [](const Tensor& t, int64_t elements) {
    return static_cast<std::byte*>(t.data) + elements * size_of(t.dtype);
  };
  const auto is_aligned = [](const Tensor& t, const Side& side) {
    return reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(side.alignment()) == 0;
  };
  check(is_aligned(a, key.right) && is_aligned(b, key.left) && is_aligned(c, key.result),
        "gemm: a matrix is less aligned than its strides");
  for (int64_t batch = 0; batch < (sums_batch ? g.batch : 1); ++batch) {
    const bool add = call.accumulate || batch > 0;
    product.start<T>(context, static_cast<T>(g.alpha), at(b, batch * g.b.batch),
                     at(a, batch * g.a.batch), add ? T{1} : T{0}, c.data, library_workspace(call));
  }
}

// A 16-bit result that sums over a batch: formed in FP32, rounded once.
void multiply_in_fp32(const KernelCall& call, GemmAttributes g, const Tensor& a, const Tensor& b) {
  const Tensor& c = call.outputs[0];
  const Tensor sum{call.workspace.data() + kDeviceGemmWorkspaceBytes, DType::kF32, {g.m, g.n}};
  const Strides to = g.c;
  g.c = {0, g.n, 1};
  with_operand_type<float>(c.dtype, [&]<class S>(S) {
    if (call.accumulate) {
      launch(call, g.m, g.n,
             CopyLines<float, S>{c.as<const S>(), to.row, to.column, sum.as<float>(), g.n, 1, g.n});
    }
    multiply<float>(call, g, a, b, sum);
    launch(call, g.m, g.n,
           CopyLines<S, float>{sum.as<const float>(), g.n, 1, c.as<S>(), to.row, to.column, g.n});
  });
}

}  // namespace

void gemm(const KernelCall& call) {
  auto whole = std::get<GemmAttributes>(call.attributes);
  GemmAttributes g = limited(whole, call.iteration);
  const Tensor& c = call.outputs[0];
  if (!call.accumulate && g.m < whole.m) {
    const int64_t rows = whole.m - g.m, batch = whole.c.batch == 0 ? 1 : whole.batch;
    with_float_type(c.dtype, [&]<class T>(T) {
      launch(call, batch * rows, whole.n, ZeroRows<T>{c.as<T>(), whole.c, g.m, rows, whole.n});
    });
  }
  Tensor a = call.inputs[0], b = call.inputs[1];
  if (has_transposed_result(whole)) {
    g = transposed(g);
    std::swap(a, b);
  }
  check(static_cast<int64_t>(call.workspace.size()) >= device_gemm_workspace_bytes(whole, c.dtype),
        "gemm: the workspace is too small");
  if (c.dtype == DType::kF64) {
    multiply<double>(call, g, a, b, c);
  } else if (sums_batch_in_fp32(whole, c.dtype)) {
    multiply_in_fp32(call, g, a, b);
  } else {
    multiply<float>(call, g, a, b, c);
  }
}

}  // namespace memwall::launchers
