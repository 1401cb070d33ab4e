#include "runtime/kernels/fused.h"

#include "runtime/base/workspace.h"
#include "runtime/kernels/launchers/types.h"

namespace memwall::launchers {
namespace {

const RowsAttributes& rows_of(const KernelCall& call) {
  return std::get<RowsAttributes>(call.attributes);
}

// Scratch for the sums of blocks of rows, `sums` of them a column.
template <class C>
C* block_sums(const KernelCall& call, int64_t rows, int64_t sums) {
  const int64_t bytes =
      block_sums_workspace_bytes(rows, sums * rows_of(call).width, call.inputs[0].dtype);
  check(static_cast<int64_t>(call.workspace.size()) >= bytes, "the workspace is too small");
  return reinterpret_cast<C*>(call.workspace.data());
}

}  // namespace

void bias_gelu(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    const BiasGelu<T, Accumulator<T>> kernel{input<T>(call, 0), input<T>(call, 1),
                                             output<T>(call, 0), output<T>(call, 1), a.width};
    launch(call, a.rows, a.width, kernel);
  });
}

void add_layer_norm(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    const AddLayerNorm<T, C> kernel{input<T>(call, 0),
                                    input<T>(call, 1),
                                    output<T>(call, 0),
                                    {{call.outputs[0].as<const T>()},
                                     input<T>(call, 2),
                                     input<T>(call, 3),
                                     output<T>(call, 1),
                                     statistic_output<T>(call, 2),
                                     statistic_output<T>(call, 3),
                                     a.width,
                                     static_cast<C>(a.epsilon)}};
    launch(call, a.batch * a.rows, a.width, kernel);
  });
}

void gelu_grad_columns(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_float_type(call.outputs[1].dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    C* const partials = block_sums<C>(call, a.rows, 1);
    const GeluGradColumns<T, C> kernel{
        input<T>(call, 0), input<T>(call, 1), output<T>(call, 1), partials, a.rows, a.width};
    const int64_t blocks = ceil_div(a.rows, kRowBlock);
    launch(call, blocks, kRowBlock * a.width, kernel);
    with_float_type(call.outputs[0].dtype, [&]<class Out>(Out) {
      if constexpr (std::is_same_v<Accumulator<Out>, C>) {
        launch(call, ceil_div(a.width, kColumnTile), blocks * kColumnTile,
               SumOfBlocks<Out, C>{partials, output<Out>(call, 0), blocks, a.width, a.width});
      }
    });
  });
}

void layer_norm_grads(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  const int64_t rows = a.batch * a.rows, blocks = ceil_div(rows, kRowBlock);
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    C* const partials = block_sums<C>(call, rows, 2);
    const LayerNormGrads<T, C> kernel{
        {input<T>(call, 0), input<T>(call, 1), input<T>(call, 2), statistic<T>(call, 3),
         statistic<T>(call, 4), output<T>(call), a.width},
        partials,
        rows};
    launch(call, blocks, kRowBlock * a.width, kernel);
    for (size_t k : {1, 2}) {
      launch(call, ceil_div(a.width, kColumnTile), blocks * kColumnTile,
             SumOfBlocks<T, C>{partials + static_cast<int64_t>(k - 1) * a.width, output<T>(call, k),
                               blocks, 2 * a.width, a.width});
    }
  });
}

}  // namespace memwall::launchers
