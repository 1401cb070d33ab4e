#include <array>
#include <string>
#include <utility>

#include "runtime/kernels/kernel.h"
#include "runtime/kernels/launchers/launchers.h"

namespace memwall {
namespace {

constexpr std::array<Kernel, kOpCount> all_kernels() {
  std::array<Kernel, kOpCount> table{};
  const auto set = [&](Op op, Kernel kernel) { table[static_cast<size_t>(op)] = kernel; };
  set(Op::kFill, launchers::fill);
  set(Op::kCopy, launchers::copy);
  set(Op::kAdd, launchers::add);
  set(Op::kBias, launchers::bias);
  set(Op::kColumnSum, launchers::column_sum);
  set(Op::kGemm, launchers::gemm);
  set(Op::kSum, launchers::sum);
  set(Op::kLayerNorm, launchers::layer_norm);
  set(Op::kLayerNormGrad, launchers::layer_norm_grad);
  set(Op::kLayerNormScaleGrad, launchers::layer_norm_scale_grad);
  set(Op::kGelu, launchers::gelu);
  set(Op::kGeluGrad, launchers::gelu_grad);
  set(Op::kDropout, launchers::dropout);
  set(Op::kCausalSoftmax, launchers::causal_softmax);
  set(Op::kSoftmaxGrad, launchers::softmax_grad);
  set(Op::kEmbedding, launchers::embedding);
  set(Op::kEmbeddingGrad, launchers::embedding_grad);
  set(Op::kCrossEntropy, launchers::cross_entropy);
  set(Op::kCrossEntropyGrad, launchers::cross_entropy_grad);
  set(Op::kBiasGelu, launchers::bias_gelu);
  set(Op::kAddLayerNorm, launchers::add_layer_norm);
  set(Op::kGeluGradColumns, launchers::gelu_grad_columns);
  set(Op::kLayerNormGrads, launchers::layer_norm_grads);
  set(Op::kAttention, launchers::attention);
  set(Op::kAttentionGrad, launchers::attention_grad);
  set(Op::kGemmBias, launchers::gemm_bias);
  set(Op::kGemmBiasGelu, launchers::gemm_bias_gelu);
  set(Op::kGemmGeluGrad, launchers::gemm_gelu_grad);
  set(Op::kSign, launchers::sign);
  set(Op::kSignProduct, launchers::sign_product);
  set(Op::kSumParts, launchers::sum_parts);
  set(Op::kRowPartials, launchers::row_partials);
  set(Op::kSpatialAverage, launchers::spatial_average);
  set(Op::kInitialize, launchers::initialize);
  set(Op::kSumSquares, launchers::sum_squares);
  set(Op::kStepControl, launchers::step_control);
  set(Op::kAdamW, launchers::adamw);
  set(Op::kSgd, launchers::sgd);
  set(Op::kAdaHessian, launchers::adahessian);
  return table;
}

constexpr std::array<Kernel, kOpCount> kKernels = all_kernels();

template <size_t kOp>
void values_only(const KernelCall& call) {
  if (call.dual) {
    throw InternalError("no kernel on dual numbers", std::string(op_name(Op{kOp})));
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

Kernel kernel_of(Op op) {
  const auto i = static_cast<size_t>(op);
  return kKernels[i] == nullptr || runs_on_duals(op) ? kKernels[i] : kValuesOnly[i];
}

}  // namespace memwall
