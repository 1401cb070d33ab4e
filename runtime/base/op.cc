#include "runtime/base/op.h"

namespace memwall {
namespace {

constexpr std::array<std::string_view, kOpCount> kNames = {"state",
                                                           "operand",
                                                           "view",
                                                           "shard_view",
                                                           "concat",
                                                           "replicate",
                                                           "fill",
                                                           "copy",
                                                           "add",
                                                           "bias",
                                                           "column_sum",
                                                           "gemm",
                                                           "sum",
                                                           "layer_norm",
                                                           "layer_norm_grad",
                                                           "layer_norm_scale_grad",
                                                           "gelu",
                                                           "gelu_grad",
                                                           "dropout",
                                                           "causal_softmax",
                                                           "softmax_grad",
                                                           "embedding",
                                                           "embedding_grad",
                                                           "cross_entropy",
                                                           "cross_entropy_grad",
                                                           "chunked",
                                                           "bias_gelu",
                                                           "add_layer_norm",
                                                           "gelu_grad_columns",
                                                           "layer_norm_grads",
                                                           "attention",
                                                           "attention_grad",
                                                           "gemm_bias",
                                                           "gemm_bias_gelu",
                                                           "gemm_gelu_grad",
                                                           "all_gather",
                                                           "reduce_scatter",
                                                           "all_reduce",
                                                           "sign",
                                                           "sign_product",
                                                           "sum_parts",
                                                           "row_partials",
                                                           "spatial_average",
                                                           "initialize",
                                                           "sum_squares",
                                                           "step_control",
                                                           "adamw",
                                                           "sgd",
                                                           "adahessian"};

}  // namespace

std::string_view op_name(Op op) {
  return kNames[static_cast<size_t>(op)];
}

std::optional<Op> parse_op(std::string_view name) {
  for (size_t i = 0; i < kOpCount; ++i) {
    if (kNames[i] == name) return static_cast<Op>(i);
  }
  return std::nullopt;
}

bool is_collective(Op op) {
  return op == Op::kAllGather || op == Op::kReduceScatter || op == Op::kAllReduce;
}

bool is_product(Op op) {
  return op == Op::kGemm || epilogue_of(op) != Epilogue::kNone;
}

Epilogue epilogue_of(Op op) {
  switch (op) {
    case Op::kGemmBias: return Epilogue::kBias;
    case Op::kGemmBiasGelu: return Epilogue::kBiasGelu;
    case Op::kGemmGeluGrad: return Epilogue::kGeluGrad;
    default: return Epilogue::kNone;
  }
}

size_t dual_operands(Op op) {
  switch (op) {
    case Op::kGelu:
    case Op::kCausalSoftmax: return 1;
    case Op::kGeluGrad:
    case Op::kSoftmaxGrad:
    case Op::kCrossEntropy: return 2;
    case Op::kLayerNorm: return 3;
    case Op::kLayerNormScaleGrad:
    case Op::kCrossEntropyGrad: return 4;
    case Op::kLayerNormGrad: return 5;
    default: return 0;
  }
}

bool runs_on_duals(Op op) {
  return dual_operands(op) > 0;
}

bool is_update(Op op) {
  return op == Op::kAdamW || op == Op::kSgd || op == Op::kAdaHessian;
}

}  // namespace memwall
