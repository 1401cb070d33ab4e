// What a kernel is given: resolved pointers, attributes, and how to write its result.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/base/dtype.h"
#include "runtime/base/op.h"
#include "runtime/base/shape.h"
#include "runtime/base/unit.h"

namespace memwall {

// A contiguous row-major tensor in an arena. Not owned.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  int64_t elements() const { return shape.elements(); }
};

// A dual call computes values and tangents (forward-mode derivatives) at once: its inputs are the
// op's inputs, then the tangents of the floating-point ones, in order; its outputs are the op's
// results, then their tangents. A tangent has its value's dtype and shape.
struct KernelCall {
  const Attributes& attributes;
  std::span<const Tensor> inputs;  // without the addend
  std::span<const Tensor> outputs;
  // outputs[0] += result instead of outputs[0] = result. Only for ops whose result accumulates
  // (gemm, column_sum, layer_norm_scale_grad, layer_norm_grad(s), gelu_grad_columns,
  // embedding_grad, copy, sum, sum_squares, sum_parts, sign_product, dropout). Of a dual call also
  // the first result's tangent.
  bool accumulate = false;
  int64_t iteration = 0;  // of the enclosing chunked step, else 0
  int rank = 0, ranks = 1;
  const Unit* unit = nullptr;      // for UnitAttributes
  std::span<std::byte> workspace;  // workspace_bytes(op, attributes, ...) bytes, 64-byte aligned
  int threads = 1;
  bool dual = false;
  void* context = nullptr;  // of a GPU: a cuda::Context, whose stream the kernel is queued on
};

using Kernel = void (*)(const KernelCall&);

// The kernel of an op for the target that this is compiled for; nullptr where the executor itself
// moves data (collectives, chunked) or there is nothing to do (views). Kernels throw only on broken
// preconditions.
Kernel kernel_of(Op op);

}  // namespace memwall
