#include <array>

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
  set(Op::kInitialize, cpu::initialize);
  set(Op::kSumSquares, cpu::sum_squares);
  set(Op::kStepControl, cpu::step_control);
  set(Op::kAdamW, cpu::adamw);
  set(Op::kSgd, cpu::sgd);
  return table;
}

constexpr std::array<Kernel, kOpCount> kCpuKernels = cpu_kernels();

}  // namespace

Kernel cpu_kernel(Op op) {
  return kCpuKernels[static_cast<size_t>(op)];
}

}  // namespace memwall
