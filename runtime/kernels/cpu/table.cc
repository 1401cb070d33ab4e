#include <array>
#include <string>
#include <utility>

#include "runtime/kernels/cpu/launch.h"
#include "runtime/kernels/kernel.h"

namespace memwall {
namespace {

constexpr std::array<Kernel, kOpCount> cpu_kernels() {
  std::array<Kernel, kOpCount> table{};
  const auto set = [&](Op op, Kernel kernel) { table[static_cast<size_t>(op)] = kernel; };
  set(Op::kFill, cpu::fill);
  set(Op::kCopy, cpu::copy);
  set(Op::kAdd, cpu::add);
  set(Op::kBias, cpu::bias);
  set(Op::kColumnSum, cpu::column_sum);
  set(Op::kGemm, cpu::gemm);
  set(Op::kSum, cpu::sum);
  set(Op::kLayerNorm, cpu::layer_norm);
  set(Op::kLayerNormGrad, cpu::layer_norm_grad);
  set(Op::kLayerNormScaleGrad, cpu::layer_norm_scale_grad);
  set(Op::kGelu, cpu::gelu);
  set(Op::kGeluGrad, cpu::gelu_grad);
  set(Op::kDropout, cpu::dropout);
  set(Op::kCausalSoftmax, cpu::causal_softmax);
  set(Op::kSoftmaxGrad, cpu::softmax_grad);
  set(Op::kEmbedding, cpu::embedding);
  set(Op::kEmbeddingGrad, cpu::embedding_grad);
  set(Op::kCrossEntropy, cpu::cross_entropy);
  set(Op::kCrossEntropyGrad, cpu::cross_entropy_grad);
  set(Op::kBiasGelu, cpu::bias_gelu);
  set(Op::kAddLayerNorm, cpu::add_layer_norm);
  set(Op::kGeluGradColumns, cpu::gelu_grad_columns);
  set(Op::kLayerNormGrads, cpu::layer_norm_grads);
  set(Op::kSign, cpu::sign);
  set(Op::kSignProduct, cpu::sign_product);
  set(Op::kSumParts, cpu::sum_parts);
  set(Op::kRowPartials, cpu::row_partials);
  set(Op::kSpatialAverage, cpu::spatial_average);
  set(Op::kInitialize, cpu::initialize);
  set(Op::kSumSquares, cpu::sum_squares);
  set(Op::kStepControl, cpu::step_control);
  set(Op::kAdamW, cpu::adamw);
  set(Op::kSgd, cpu::sgd);
  set(Op::kAdaHessian, cpu::adahessian);
  return table;
}

constexpr std::array<Kernel, kOpCount> kKernels = cpu_kernels();

template <size_t kOp>
void values_only(const KernelCall& call) {
  if (call.dual) {
    throw InternalError("no CPU kernel on dual numbers", std::string(op_name(Op{kOp})));
  }
  kKernels[kOp](call);
}

template <size_t... kOps>
constexpr std::array<Kernel, kOpCount> all_values_only(std::index_sequence<kOps...>) {
  return {values_only<kOps>...};
}

constexpr std::array<Kernel, kOpCount> kValuesOnly =
    all_values_only(std::make_index_sequence<kOpCount>{});

}  // namespace

Kernel cpu_kernel(Op op) {
  const auto i = static_cast<size_t>(op);
  return kKernels[i] == nullptr || runs_on_duals(op) ? kKernels[i] : kValuesOnly[i];
}

}  // namespace memwall
