#include "runtime/kernels/cuda/products.h"

#include <array>
#include <cstring>
#include <sstream>
#include <type_traits>
#include <utility>

#include "runtime/base/gemm_panels.h"
#include "runtime/kernels/cuda/status.h"
#include "runtime/kernels/gemm.h"

namespace memwall::cuda {
namespace {

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF16: return CUDA_R_16F;
    case DType::kBF16: return CUDA_R_16BF;
    case DType::kF32: return CUDA_R_32F;
    case DType::kF64: return CUDA_R_64F;
    default: throw InternalError("no product of " + std::string(name_of(dtype)));
  }
}

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

using Numbers = std::array<int64_t, 24>;  // of a key

// What is sent of a product.
struct Choice {
  Numbers key;
  cublasLtMatmulAlgo_t algorithm;
};
static_assert(std::has_unique_object_representations_v<Choice>);

Numbers numbers_of(const Key& key) {
  Numbers numbers{key.m, key.n, key.k, key.batch, key.tf32, static_cast<int64_t>(key.epilogue)};
  size_t at = 6;
  for (const Side* s : {&key.left, &key.right, &key.result}) {
    for (const int64_t number : {static_cast<int64_t>(s->dtype), static_cast<int64_t>(s->transpose),
                                 s->rows, s->columns, s->leading, s->batch_stride}) {
      numbers[at++] = number;
    }
  }
  return numbers;
}

cublasLtEpilogue_t library_epilogue(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::kNone: return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::kBias: return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::kBiasGelu: return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Epilogue::kGeluGrad: return CUBLASLT_EPILOGUE_DGELU;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

bool has_bias(Epilogue epilogue) {
  return epilogue == Epilogue::kBias || epilogue == Epilogue::kBiasGelu;
}
bool has_h(Epilogue epilogue) {
  return epilogue == Epilogue::kBiasGelu || epilogue == Epilogue::kGeluGrad;
}

// What select lets through, and cuBLASLt asks for (cublasLt.h): an h has rows of a multiple of 8.
void check_epilogue(const Product& p, DType c) {
  check(p.g.limit == GemmLimit::kNone && !p.exchanged && !p.in_fp32 && !p.sums_batch &&
            c != DType::kF64,
        "a product that cuBLASLt has no epilogue for", p.key.text());
  check(!has_h(p.key.epilogue) || (p.key.batch == 1 && p.key.result.leading % 8 == 0),
        "GELU in a product whose rows are no multiple of 8", p.key.text());
}

}  // namespace

int64_t Key::extra_alignment() const {
  const int64_t bias_bytes = n * size_of(result.dtype);
  return has_h(epilogue) || batch == 1 || bias_bytes % 16 == 0 ? 16 : size_of(result.dtype);
}

std::string Key::text() const {
  std::ostringstream text;
  text << '(' << m << ", " << n << ", " << k << ')';
  if (batch > 1) text << " x " << batch;
  text << " of " << name_of(left.dtype) << " to " << name_of(result.dtype);
  switch (epilogue) {
    case Epilogue::kNone: break;
    case Epilogue::kBias: text << " with a bias"; break;
    case Epilogue::kBiasGelu: text << " with a bias and GELU"; break;
    case Epilogue::kGeluGrad: text << " with GELU's gradient"; break;
  }
  return text.str();
}

Product product_of(const GemmAttributes& whole, int64_t iteration, DType a, DType b, DType c,
                   bool tf32, Epilogue epilogue) {
  check(a == b, "a product of operands of two types");
  Product p;
  p.g = limited(whole, iteration);
  p.exchanged = has_transposed_result(whole);
  if (p.exchanged) p.g = transposed(p.g);
  p.result = p.g.c;
  p.in_fp32 = sums_batch_in_fp32(whole, c);
  if (p.in_fp32) {
    p.g.c = {0, p.g.n, 1};
    c = DType::kF32;
  }
  p.sums_batch = p.g.c.batch == 0 && p.g.batch > 1;
  p.key = {.left = side_of(p.g.b, b, p.g.k, p.g.n, "b"),
           .right = side_of(p.g.a, a, p.g.m, p.g.k, "a"),
           .result = side_of(p.g.c, c, p.g.m, p.g.n, "c"),
           .m = p.g.m,
           .n = p.g.n,
           .k = p.g.k,
           .batch = p.sums_batch ? 1 : p.g.batch,
           .tf32 = tf32 && a == DType::kF32,
           .epilogue = epilogue};
  check(!p.key.result.transpose, "gemm: a result that is stored by columns");
  if (epilogue != Epilogue::kNone) check_epilogue(p, c);
  return p;
}

class PreparedProduct::Layout {
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

template <class T>
void PreparedProduct::set(cublasLtMatmulDescAttributes_t which, const T& value) const {
  check_cublas(cublasLtMatmulDescSetAttribute(product_.get(), which, &value, sizeof(value)),
               "cublasLtMatmulDescSetAttribute");
}

void PreparedProduct::set(const Extra& extra) const {
  if (has_bias(epilogue_)) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, extra.bias);
  if (has_h(epilogue_)) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, extra.h);
}

void PreparedProduct::describe(const Key& key) {
  left_ = std::make_unique<Layout>(key.left, key.batch);
  right_ = std::make_unique<Layout>(key.right, key.batch);
  result_ = std::make_unique<Layout>(key.result, key.batch);
  const bool wide = key.result.dtype == DType::kF64;
  const cublasComputeType_t arithmetic = wide       ? CUBLAS_COMPUTE_64F
                                         : key.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                    : CUBLAS_COMPUTE_32F;
  cublasLtMatmulDesc_t made = nullptr;
  check_cublas(cublasLtMatmulDescCreate(&made, arithmetic, wide ? CUDA_R_64F : CUDA_R_32F),
               "cublasLtMatmulDescCreate");
  product_.reset(made);
  const auto operation = [](const Side& side) {
    return side.transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, operation(key.left));
  set(CUBLASLT_MATMUL_DESC_TRANSB, operation(key.right));
  epilogue_ = key.epilogue;
  if (epilogue_ != Epilogue::kNone) describe_epilogue(key);
}

// The choice of an algorithm reads from the addresses what alignment it may count on: until a call
// has its own they say what every call keeps.
void PreparedProduct::describe_epilogue(const Key& key) {
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, library_epilogue(epilogue_));
  if (has_bias(epilogue_) && key.batch > 1) set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, key.n);
  if (has_h(epilogue_)) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, key.result.leading);
  const auto address = static_cast<uintptr_t>(key.extra_alignment());
  set({reinterpret_cast<const void*>(address), reinterpret_cast<void*>(address)});
}

PreparedProduct::PreparedProduct(cublasLtHandle_t blas, const Key& key) {
  describe(key);
  choose(blas, key);
}

PreparedProduct::PreparedProduct(cublasLtHandle_t blas, const Key& key,
                                 const cublasLtMatmulAlgo_t& algorithm)
    : algorithm_(algorithm) {
  describe(key);
  constexpr const char* kRemedy = "run all ranks on equal GPUs with the same cuBLASLt";
  const auto refuse = [&](const std::string& why) {
    throw Error(
        "cuBLASLt: the algorithm that rank 0 has chosen for the product " + key.text() + why, "",
        kRemedy);
  };
  cublasLtMatmulHeuristicResult_t found{};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(blas, product_.get(), left_->get(), right_->get(), result_->get(),
                              result_->get(), &algorithm_, &found);
  if (status != CUBLAS_STATUS_SUCCESS) {
    refuse(std::string(" does not run on this GPU: ") + cublasLtGetStatusString(status));
  }
  if (found.workspaceSize > kLibraryWorkspaceBytes) {
    refuse(" needs " + std::to_string(found.workspaceSize) + " bytes of workspace here, and " +
           std::to_string(kLibraryWorkspaceBytes) + " are planned");
  }
}

PreparedProduct::~PreparedProduct() = default;

void PreparedProduct::DestroyProduct::operator()(cublasLtMatmulDesc_t product) const {
  cublasLtMatmulDescDestroy(product);
}

void PreparedProduct::start(cublasLtHandle_t blas, cudaStream_t stream, const void* alpha,
                            const void* left, const void* right, const void* beta, void* result,
                            const Extra& extra, std::span<std::byte> workspace) const {
  set(extra);
  check_cublas(cublasLtMatmul(blas, product_.get(), alpha, left, left_->get(), right, right_->get(),
                              beta, result, result_->get(), result, result_->get(), &algorithm_,
                              workspace.data(), workspace.size(), stream),
               "cublasLtMatmul");
}

void PreparedProduct::choose(cublasLtHandle_t blas, const Key& key) {
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
  cublasLtMatmulHeuristicResult_t chosen{};
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      blas, product_.get(), left_->get(), right_->get(), result_->get(), result_->get(), preference,
      1, &chosen, &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_cublas(status, "cublasLtMatmulAlgoGetHeuristic");
  if (status != CUBLAS_STATUS_SUCCESS || found == 0 ||
      chosen.workspaceSize > kLibraryWorkspaceBytes) {
    throw Error(
        "cuBLASLt has no algorithm within the planned workspace for the product " + key.text(), "",
        epilogue_ == Epilogue::kNone ? "" : "set run.product_epilogues to false");
  }
  algorithm_ = chosen.algo;
}

const PreparedProduct& GemmCache::of(cublasLtHandle_t blas, const Key& key) {
  auto& found = products_[key];
  if (!found) {
    check(!complete_, "a product that was not prepared", key.text());
    found = std::make_unique<PreparedProduct>(blas, key);
  }
  return *found;
}

std::string GemmCache::choose(cublasLtHandle_t blas, const std::vector<Key>& keys) {
  std::string bytes;
  for (const Key& key : keys) {
    const Choice choice{numbers_of(key), PreparedProduct(blas, key).algorithm()};
    bytes.append(reinterpret_cast<const char*>(&choice), sizeof(choice));
  }
  return bytes;
}

void GemmCache::take(cublasLtHandle_t blas, const std::vector<Key>& keys, std::string_view choice) {
  check(choice.size() == keys.size() * sizeof(Choice), "rank 0 has chosen for other products");
  products_.clear();
  complete_ = true;
  for (const Key& key : keys) {
    Choice sent;
    std::memcpy(&sent, choice.data(), sizeof(sent));
    choice.remove_prefix(sizeof(sent));
    check(sent.key == numbers_of(key), "rank 0 has chosen for other products", key.text());
    products_[key] = std::make_unique<PreparedProduct>(blas, key, sent.algorithm);
  }
}

std::shared_ptr<GemmCache> make_gemm_cache() {
  return std::make_shared<GemmCache>();
}

}  // namespace memwall::cuda
