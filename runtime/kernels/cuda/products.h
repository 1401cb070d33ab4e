// The products that cuBLASLt is asked for. Which product a step starts, and by which algorithm, is
// found here for those who prepare a run and for those who start it.
//
// cuBLASLt stores matrices by columns: c by rows is its c^T = b^T a^T. The algorithm is its first
// proposal for the shape, strides and types of the product, never for an address.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/op.h"
#include "runtime/base/workspace.h"
#include "runtime/kernels/cuda/gemm_cache.h"

namespace memwall::cuda {

// On Hopper cuBLASLt's kernels need this, though it is not documented; plans align to 64 bytes.
inline constexpr size_t kWorkspaceAlignment = 256;
inline constexpr size_t kLibraryWorkspaceBytes =
    static_cast<size_t>(kDeviceGemmWorkspaceBytes) - kWorkspaceAlignment;

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
  Epilogue epilogue;
  std::string text() const;
  // Of the epilogue's operand, in bytes: a bias as its batches allow; an h of 16 bytes.
  int64_t extra_alignment() const;
  auto operator<=>(const Key&) const = default;
};

// What an epilogue reads or writes beside the result: a packed bias, in cuBLASLt's terms one for
// each row of its D, for each of a batch; an h that lies as the result does, written with a GELU
// and read with GELU's gradient. Both have the result's type, which is cuBLASLt's default.
struct Extra {
  const void* bias = nullptr;
  void* h = nullptr;
};

// What a step starts in an iteration.
struct Product {
  GemmAttributes g;  // limited; its result is by rows, which may have exchanged a and b
  bool exchanged = false;
  Strides result;           // of the call's, by rows
  bool in_fp32 = false;     // it is 16 bits wide and a sum over a batch: g.c is of one in FP32
  bool sums_batch = false;  // one product for each of the batch, the later ones added
  Key key;
};
Product product_of(const GemmAttributes& whole, int64_t iteration, DType a, DType b, DType c,
                   bool tf32, Epilogue epilogue = Epilogue::kNone);

// A product that is ready to be started.
class PreparedProduct {
 public:
  PreparedProduct(cublasLtHandle_t blas, const Key& key);  // cuBLASLt's first proposal
  // Another rank's choice. Throws an Error where this GPU or the planned workspace do not allow it.
  PreparedProduct(cublasLtHandle_t blas, const Key& key, const cublasLtMatmulAlgo_t& algorithm);
  ~PreparedProduct();
  PreparedProduct(const PreparedProduct&) = delete;
  PreparedProduct& operator=(const PreparedProduct&) = delete;

  const cublasLtMatmulAlgo_t& algorithm() const { return algorithm_; }
  // `alpha`, `beta`: in double precision where the result is, else in FP32. `extra`: the
  // epilogue's; its addresses are the call's own, though cuBLASLt keeps them with the description.
  void start(cublasLtHandle_t blas, cudaStream_t stream, const void* alpha, const void* left,
             const void* right, const void* beta, void* result, const Extra& extra,
             std::span<std::byte> workspace) const;

 private:
  class Layout;
  struct DestroyProduct {
    void operator()(cublasLtMatmulDesc_t product) const;
  };
  void describe(const Key& key);
  void describe_epilogue(const Key& key);
  template <class T>
  void set(cublasLtMatmulDescAttributes_t which, const T& value) const;
  void set(const Extra& extra) const;
  void choose(cublasLtHandle_t blas, const Key& key);

  std::unique_ptr<Layout> left_, right_, result_;
  Epilogue epilogue_ = Epilogue::kNone;
  std::unique_ptr<cublasLtMatmulDescOpaque_t, DestroyProduct> product_;
  cublasLtMatmulAlgo_t algorithm_{};
};

class GemmCache {
 public:
  // Of a product that is not there yet cuBLASLt's choice is taken, until `take`; from then on that
  // is an InternalError.
  const PreparedProduct& of(cublasLtHandle_t blas, const Key& key);

  // The choice for these products, as bytes for other ranks with the same library.
  static std::string choose(cublasLtHandle_t blas, const std::vector<Key>& keys);
  // From here on these products, by that choice, are all there are.
  void take(cublasLtHandle_t blas, const std::vector<Key>& keys, std::string_view choice);

 private:
  std::map<Key, std::unique_ptr<PreparedProduct>> products_;
  bool complete_ = false;
};

}  // namespace memwall::cuda
