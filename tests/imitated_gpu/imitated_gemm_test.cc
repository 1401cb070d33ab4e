// The matrix product of the imitated cuBLASLt against plain loops in double precision.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/imitated_gpu/gemm.h"
#include "tests/imitated_gpu/numbers.h"
#include "tests/imitated_gpu/test_device.h"

#define EXPECT_BLAS(call) EXPECT_EQ(call, CUBLAS_STATUS_SUCCESS)

namespace memwall::imitated::test {
namespace {

// A matrix of the caller: where element (i, j) of a batch lies.
struct Shape {
  cudaDataType_t type;
  int rows, columns, leading;
  bool by_row;
  int batches;
  int64_t stride;

  size_t at(int batch, int i, int j) const {
    return static_cast<size_t>(batch * stride +
                               (by_row ? int64_t{i} * leading + j : int64_t{j} * leading + i));
  }
  size_t count() const { return static_cast<size_t>(batches * stride); }
};

Shape shape(cudaDataType_t type, int rows, int columns, bool by_row, int batches) {
  const int leading = (by_row ? columns : rows) + 3;
  const int64_t lines = by_row ? rows : columns;
  return {type, rows, columns, leading, by_row, batches, leading * lines + 5};
}

double get(const std::vector<std::byte>& bytes, cudaDataType_t type, size_t i) {
  switch (type) {
    case CUDA_R_16F: return static_cast<double>(reinterpret_cast<const Half*>(bytes.data())[i]);
    case CUDA_R_16BF: return float(reinterpret_cast<const BFloat16*>(bytes.data())[i]);
    case CUDA_R_32F: return reinterpret_cast<const float*>(bytes.data())[i];
    default: return reinterpret_cast<const double*>(bytes.data())[i];
  }
}

void put(std::vector<std::byte>& bytes, cudaDataType_t type, size_t i, double value) {
  switch (type) {
    case CUDA_R_16F: reinterpret_cast<Half*>(bytes.data())[i] = static_cast<Half>(value); return;
    case CUDA_R_16BF:
      reinterpret_cast<BFloat16*>(bytes.data())[i] = BFloat16(static_cast<float>(value));
      return;
    case CUDA_R_32F: reinterpret_cast<float*>(bytes.data())[i] = static_cast<float>(value); return;
    default: reinterpret_cast<double*>(bytes.data())[i] = value;
  }
}

std::vector<std::byte> numbers(cudaDataType_t type, size_t count, unsigned seed) {
  std::vector<std::byte> bytes(count * element_bytes(type));
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    put(bytes, type, i, static_cast<double>(seed >> 8) / (1 << 23) - 1.0);
  }
  return bytes;
}

double unit_roundoff(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_16F: return 0x1p-11;
    case CUDA_R_16BF: return 0x1p-8;
    case CUDA_R_32F: return 0x1p-24;
    default: return 0x1p-53;
  }
}

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}
// By differences of the function: exact to about 1e-9.
double gelu_slope(double x) {
  return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
}

// One bias of a batch begins behind the one before it, and a gap.
constexpr int64_t kBiasStride = 48;

struct Case {
  cudaDataType_t in = CUDA_R_32F, out = CUDA_R_32F;
  bool a_turned = false, b_turned = false, by_row = false;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  bool bias() const { return (epilogue & CUBLASLT_EPILOGUE_BIAS) != 0; }
  bool gelu() const { return epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS; }
  bool slope() const { return epilogue == CUBLASLT_EPILOGUE_DGELU; }
  int batches = 1;
  double alpha = 1.0, beta = 0.0;
  int m = 37, n = 21, k = 45;
};

class Layout {
 public:
  explicit Layout(const Shape& s) {
    const auto rows = static_cast<uint64_t>(s.rows), columns = static_cast<uint64_t>(s.columns);
    EXPECT_BLAS(cublasLtMatrixLayoutCreate(&layout_, s.type, rows, columns, s.leading));
    const int32_t order = s.by_row ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
    set(CUBLASLT_MATRIX_LAYOUT_ORDER, order);
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t{s.batches});
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, s.stride);
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  operator cublasLtMatrixLayout_t() const { return layout_; }

 private:
  template <class Value>
  void set(cublasLtMatrixLayoutAttribute_t name, const Value& value) {
    EXPECT_BLAS(cublasLtMatrixLayoutSetAttribute(layout_, name, &value, sizeof(value)));
  }
  cublasLtMatrixLayout_t layout_ = nullptr;
};

// Everything that one product needs, on the device.
class Product {
 public:
  explicit Product(const Case& c)
      : case_(c),
        a_(shape(c.in, c.a_turned ? c.k : c.m, c.a_turned ? c.m : c.k, c.by_row, c.batches)),
        b_(shape(c.in, c.b_turned ? c.n : c.k, c.b_turned ? c.k : c.n, c.by_row, c.batches)),
        d_(shape(c.out, c.m, c.n, c.by_row, c.batches)),
        a_bytes_(numbers(c.in, a_.count(), 1)),
        b_bytes_(numbers(c.in, b_.count(), 2)),
        d_bytes_(numbers(c.out, d_.count(), 3)),
        aux_{c.out, c.m, c.n, 48, false, c.batches, int64_t{48} * c.n + 8},
        bias_bytes_(numbers(c.out, static_cast<size_t>(kBiasStride * c.batches), 4)),
        aux_bytes_(numbers(c.out, aux_.count(), 5)),
        a(a_bytes_),
        b(b_bytes_),
        d(d_bytes_),
        bias(bias_bytes_),
        aux(aux_bytes_),
        workspace(kWorkspaceBytes),
        a_layout_(a_),
        b_layout_(b_),
        d_layout_(d_) {
    const bool is_double = c.in == CUDA_R_64F;
    EXPECT_BLAS(cublasLtCreate(&handle_));
    EXPECT_BLAS(cublasLtMatmulDescInit(&operation_,
                                       is_double ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                       is_double ? CUDA_R_64F : CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, c.a_turned ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, c.b_turned ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, c.epilogue);
    if (c.bias()) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias.get()));
      set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, kBiasStride);
    }
    if (c.gelu() || c.slope()) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(aux.get()));
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{aux_.leading});
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, aux_.stride);
    }
  }
  ~Product() { cublasLtDestroy(handle_); }

  static constexpr size_t kWorkspaceBytes = 1 << 16;

  cublasLtMatmulAlgo_t algorithm(uint32_t alignment = 256, uint64_t workspace_bytes = 0) {
    cublasLtMatmulPreferenceOpaque_t preference;
    EXPECT_BLAS(cublasLtMatmulPreferenceInit(&preference));
    EXPECT_BLAS(cublasLtMatmulPreferenceSetAttribute(&preference,
                                                     CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &workspace_bytes, sizeof(workspace_bytes)));
    for (int i = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
         i <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; ++i) {
      EXPECT_BLAS(cublasLtMatmulPreferenceSetAttribute(
          &preference, static_cast<cublasLtMatmulPreferenceAttributes_t>(i), &alignment,
          sizeof(alignment)));
    }
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    EXPECT_BLAS(cublasLtMatmulAlgoGetHeuristic(handle_, &operation_, a_layout_, b_layout_,
                                               d_layout_, d_layout_, &preference, 1, &result,
                                               &found));
    EXPECT_EQ(found, 1);
    EXPECT_EQ(result.workspaceSize, workspace_bytes);
    return result.algo;
  }

  cublasStatus_t run(const cublasLtMatmulAlgo_t* algo, size_t shift = 0, size_t used = 0) {
    const float alpha = static_cast<float>(case_.alpha), beta = static_cast<float>(case_.beta);
    const bool is_double = case_.in == CUDA_R_64F;
    return cublasLtMatmul(handle_, &operation_,
                          is_double ? static_cast<const void*>(&case_.alpha) : &alpha,
                          a.get() + shift, a_layout_, b.get(), b_layout_,
                          is_double ? static_cast<const void*>(&case_.beta) : &beta, d.get(),
                          d_layout_, d.get(), d_layout_, algo, workspace.get(), used, stream);
  }

  // Compares all of D's memory: elements with the plain sum, what lies between them with its old
  // bytes.
  void check() const {
    const std::vector<std::byte> got = d.read(), got_aux = aux.read();
    std::vector<bool> is_element(d_.count());
    const auto element = [this](const std::vector<std::byte>& bytes, const Shape& s, int batch,
                                bool turned, int i, int j) {
      return get(bytes, s.type, turned ? s.at(batch, j, i) : s.at(batch, i, j));
    };
    for (int batch = 0; batch < case_.batches; ++batch) {
      for (int i = 0; i < case_.m; ++i) {
        for (int j = 0; j < case_.n; ++j) {
          double sum = 0.0, size = 0.0;
          for (int p = 0; p < case_.k; ++p) {
            const double term = element(a_bytes_, a_, batch, case_.a_turned, i, p) *
                                element(b_bytes_, b_, batch, case_.b_turned, p, j);
            sum += term;
            size += std::abs(term);
          }
          const size_t at = d_.at(batch, i, j);
          is_element[at] = true;
          const double old = case_.beta * get(d_bytes_, d_.type, at);
          double expected = case_.alpha * sum + old;
          if (case_.bias()) {
            expected += get(bias_bytes_, d_.type, static_cast<size_t>(batch * kBiasStride + i));
          }
          const double inner = case_.in == CUDA_R_64F ? 0x1p-53 : 0x1p-24;
          const size_t beside = aux_.at(batch, i, j);
          if (case_.gelu()) {
            ASSERT_NEAR(get(got_aux, d_.type, beside), expected,
                        1.01 * unit_roundoff(d_.type) * std::abs(expected) +
                            inner * (case_.k + 4) * (size + std::abs(old) + 1.0))
                << i << " " << j;
            expected = gelu(expected);
          }
          if (case_.slope()) expected *= gelu_slope(get(aux_bytes_, d_.type, beside));
          const double bound = 1.01 * unit_roundoff(d_.type) * std::abs(expected) +
                               inner * (case_.k + 4) * (size + std::abs(old) + 1.0);
          ASSERT_NEAR(get(got, d_.type, at), expected, bound) << i << " " << j;
        }
      }
    }
    if (case_.slope()) {
      ASSERT_EQ(got_aux, aux_bytes_);
    }
    for (size_t at = 0; at < is_element.size(); ++at) {
      if (!is_element[at]) {
        ASSERT_EQ(get(got, d_.type, at), get(d_bytes_, d_.type, at));
      }
    }
  }

 private:
  Case case_;
  Shape a_, b_, d_;
  std::vector<std::byte> a_bytes_, b_bytes_, d_bytes_;
  Shape aux_;
  std::vector<std::byte> bias_bytes_, aux_bytes_;

 public:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t name, const Value& value) {
    EXPECT_BLAS(cublasLtMatmulDescSetAttribute(&operation_, name, &value, sizeof(value)));
  }
  // Whether an algorithm is found at all.
  bool has_algorithm() {
    cublasLtMatmulPreferenceOpaque_t preference;
    EXPECT_BLAS(cublasLtMatmulPreferenceInit(&preference));
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, &operation_, a_layout_, b_layout_, d_layout_,
                                       d_layout_, &preference, 1, &result, &found);
    return status == CUBLAS_STATUS_SUCCESS;
  }

  DeviceArray<std::byte> a, b, d, bias, aux, workspace;
  TestStream stream;

 private:
  Layout a_layout_, b_layout_, d_layout_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDescOpaque_t operation_;
};

void check(const Case& c) {
  Product product(c);
  const cublasLtMatmulAlgo_t algo = product.algorithm();
  EXPECT_BLAS(product.run(&algo));
  product.stream.synchronize();
  product.check();
}

TEST(ImitatedGemm, EveryTypeAndLayout) {
  const std::pair<cudaDataType_t, cudaDataType_t> types[] = {
      {CUDA_R_32F, CUDA_R_32F}, {CUDA_R_64F, CUDA_R_64F},   {CUDA_R_16F, CUDA_R_16F},
      {CUDA_R_16F, CUDA_R_32F}, {CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_16BF, CUDA_R_32F}};
  for (const auto& [in, out] : types) {
    for (int bits = 0; bits < 8; ++bits) {
      Case c;
      c.in = in;
      c.out = out;
      c.a_turned = (bits & 1) != 0;
      c.b_turned = (bits & 2) != 0;
      c.by_row = (bits & 4) != 0;
      check(c);
    }
  }
}

TEST(ImitatedGemm, BatchesScalarsAndBias) {
  for (const cudaDataType_t type : {CUDA_R_32F, CUDA_R_16F, CUDA_R_64F}) {
    for (const bool bias : {false, true}) {
      if (bias && type == CUDA_R_64F) continue;
      Case c;
      c.in = c.out = type;
      c.a_turned = true;
      c.batches = 3;
      c.alpha = 0.5;
      c.beta = -2.0;
      if (bias) c.epilogue = CUBLASLT_EPILOGUE_BIAS;
      check(c);
    }
  }
}

TEST(ImitatedGemm, GeluAndItsGradient) {
  for (const cudaDataType_t type : {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF}) {
    for (const cublasLtEpilogue_t epilogue :
         {CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU}) {
      for (const int batches : {1, 2}) {
        Case c;
        c.in = c.out = type;
        c.b_turned = true;
        c.batches = batches;
        c.alpha = 0.25;
        c.epilogue = epilogue;
        check(c);
      }
    }
  }
}

// Wrong uses of an epilogue, each of a description that is else right.
TEST(ImitatedGemm, RefusesAnEpilogueThatIsNotWhole) {
  Case c;
  c.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  const auto refuses = [&](const auto& spoil) {
    Product product(c);
    spoil(product);
    return !product.has_algorithm();
  };
  EXPECT_FALSE(refuses([](Product&) {}));
  EXPECT_TRUE(refuses(
      [](Product& p) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DGELU_BGRAD); }));
  EXPECT_TRUE(
      refuses([](Product& p) { p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{CUDA_R_16F}); }));
  EXPECT_TRUE(refuses(
      [](Product& p) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, int32_t{CUDA_R_16F}); }));
  EXPECT_TRUE(
      refuses([](Product& p) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{44}); }));
  EXPECT_TRUE(
      refuses([](Product& p) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{32}); }));
  c.in = c.out = CUDA_R_64F;
  EXPECT_TRUE(refuses([](Product&) {}));
}

TEST(ImitatedGemm, RefusesAnEpiloguesMissingOrMisplacedOperand) {
  Case c;
  c.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  Product product(c);
  const cublasLtMatmulAlgo_t algo = product.algorithm();
  const auto with = [&](const void* bias, void* aux) {
    product.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    product.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
    return product.run(&algo);
  };
  std::byte *const bias = product.bias.get(), *const aux = product.aux.get();
  EXPECT_BLAS(with(bias, aux));
  product.stream.synchronize();
  EXPECT_EQ(with(nullptr, aux), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with(bias, nullptr), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with(bias + 4, aux), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with(bias, aux + 4), CUBLAS_STATUS_INVALID_VALUE);
  // Rows of 40, as D has them: aux would lie inside D's allocation, on D itself.
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{40});
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(aux));
  product.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias));
  const cublasLtMatmulAlgo_t narrower = product.algorithm();
  EXPECT_BLAS(product.run(&narrower));
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(product.d.get()));
  EXPECT_EQ(product.run(&narrower), CUBLAS_STATUS_INVALID_VALUE);
  product.stream.synchronize();
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{48});
  // Another epilogue is another product.
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  EXPECT_EQ(with(bias, aux), CUBLAS_STATUS_INVALID_VALUE);
}

TEST(ImitatedGemm, IsWorkOfItsStream) {
  use({Order::kLate, 0});
  Product product({});
  const cublasLtMatmulAlgo_t algo = product.algorithm();
  const std::vector<std::byte> before = product.d.read();
  EXPECT_BLAS(product.run(&algo));
  EXPECT_EQ(product.d.read(), before);
  product.stream.synchronize();
  EXPECT_NE(product.d.read(), before);
}

TEST(ImitatedGemm, UsesItsWorkspace) {
  Product product({});
  const uint64_t bytes = Product::kWorkspaceBytes / 2;
  const cublasLtMatmulAlgo_t algo = product.algorithm(256, bytes);
  EXPECT_CUDA(cudaMemset(product.workspace.get(), 0, Product::kWorkspaceBytes));
  EXPECT_EQ(product.run(&algo, 0, bytes - 1), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_BLAS(product.run(&algo, 0, bytes));
  product.stream.synchronize();
  const std::vector<std::byte> after = product.workspace.read();
  EXPECT_EQ(after[0], std::byte{0xFF});
  EXPECT_EQ(after[bytes - 1], std::byte{0xFF});
  EXPECT_EQ(after[bytes], std::byte{0});
}

TEST(ImitatedGemm, RefusesAForeignAlgorithmAndAMatrixOutsideItsAllocation) {
  Product product({});
  EXPECT_EQ(product.run(nullptr), CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulAlgo_t made_up{};
  EXPECT_EQ(product.run(&made_up), CUBLAS_STATUS_INVALID_VALUE);
  Case other;
  other.n = 22;
  const cublasLtMatmulAlgo_t others = Product(other).algorithm();
  EXPECT_EQ(product.run(&others), CUBLAS_STATUS_INVALID_VALUE);
  // A's strides leave some bytes after its last element, so that it may begin later.
  const cublasLtMatmulAlgo_t aligned = product.algorithm(256), unaligned = product.algorithm(4);
  EXPECT_EQ(product.run(&aligned, 4), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_BLAS(product.run(&unaligned, 4));
  EXPECT_EQ(product.run(&unaligned, 4096), CUBLAS_STATUS_INVALID_VALUE);
  product.stream.synchronize();
}

}  // namespace
}  // namespace memwall::imitated::test
