// Products with an epilogue on the CPU: the product, then what follows it, where it lies. The same
// calls as of the ops apart, so that the bits are theirs.
#include <array>

#include "runtime/base/error.h"
#include "runtime/kernels/launchers/launchers.h"

namespace memwall::launchers {
namespace {

// To outputs[0], rounded to its type.
void product(const KernelCall& call) {
  check(!call.accumulate, "a product with an epilogue does not accumulate");
  KernelCall plain = call;
  plain.inputs = call.inputs.first(2);
  plain.outputs = call.outputs.first(1);
  gemm(plain);
}

// `follows` with these operands and results.
void then(Kernel follows, const KernelCall& call, const std::array<Tensor, 2>& inputs,
          std::span<const Tensor> outputs) {
  const auto& g = std::get<GemmAttributes>(call.attributes);
  check(g.c.row == g.n && g.c.column == 1, "an epilogue of a result that is not whole rows");
  RowsAttributes rows;
  rows.batch = g.batch, rows.rows = g.m, rows.width = rows.stride = g.n;
  const Attributes attributes = rows;
  follows({.attributes = attributes,
           .inputs = inputs,
           .outputs = outputs,
           .unit = nullptr,
           .workspace = {},
           .threads = call.threads});
}

}  // namespace

void gemm_bias(const KernelCall& call) {
  product(call);
  then(bias, call, {call.outputs[0], call.inputs[2]}, call.outputs.first(1));
}

void gemm_bias_gelu(const KernelCall& call) {
  product(call);
  then(bias_gelu, call, {call.outputs[0], call.inputs[2]}, call.outputs);
}

void gemm_gelu_grad(const KernelCall& call) {
  product(call);
  then(gelu_grad, call, {call.outputs[0], call.inputs[2]}, call.outputs);
}

}  // namespace memwall::launchers
