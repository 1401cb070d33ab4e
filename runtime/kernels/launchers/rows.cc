// Kernels that see a tensor as rows.
#include "runtime/base/workspace.h"
#include "runtime/kernels/cross_entropy.h"
#include "runtime/kernels/embedding.h"
#include "runtime/kernels/launchers/token_groups.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/layer_norm.h"
#include "runtime/kernels/reduce.h"
#include "runtime/kernels/softmax.h"

namespace memwall::launchers {
namespace {

const RowsAttributes& rows_of(const KernelCall& call) {
  return std::get<RowsAttributes>(call.attributes);
}

CausalBlock causal_block(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  const int64_t chunk = call.iteration % a.period;
  return {.rows = a.rows,
          .stride = a.stride,
          .first_query = chunk * a.rows,
          .block_end = std::min((chunk + 1) * a.rows, a.width),
          .width = a.width};
}

}  // namespace

void layer_norm(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    using C = Accumulator<T>;
    const LayerNorm<T, C, Views> kernel{input<T, Views>(call, 0),
                                        input<T, Views>(call, 1),
                                        input<T, Views>(call, 2),
                                        output<T, Views>(call),
                                        statistic_output<T, Views>(call, 1),
                                        statistic_output<T, Views>(call, 2),
                                        a.width,
                                        static_cast<C>(a.epsilon)};
    launch(call, a.batch * a.rows, a.width, kernel);
  });
}

void layer_norm_grad(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_views_and_result(call, 0, [&]<class Views, class Out, class T>(Views, Out, T) {
    const LayerNormGrad<Out, T, Accumulator<T>, Views> kernel{input<T, Views>(call, 0),
                                                              input<T, Views>(call, 1),
                                                              input<T, Views>(call, 2),
                                                              statistic<T, Views>(call, 3),
                                                              statistic<T, Views>(call, 4),
                                                              output<Out, Views>(call),
                                                              a.width};
    launch(call, a.batch * a.rows, a.width, kernel);
  });
}

void layer_norm_scale_grad(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_views_and_result(call, 0, [&]<class Views, class Out, class T>(Views, Out, T) {
    const LayerNormScaleGrad<Out, T, Accumulator<T>, Views> kernel{input<T, Views>(call, 0),
                                                                   input<T, Views>(call, 1),
                                                                   statistic<T, Views>(call, 2),
                                                                   statistic<T, Views>(call, 3),
                                                                   output<Out, Views>(call),
                                                                   a.batch * a.rows,
                                                                   a.width};
    launch_columns(call, kernel);
  });
}

void column_sum(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_result_and_input(call, 0, [&]<class Out, class T>(Out, T) {
    const ColumnSum<Out, T, Accumulator<T>> kernel{input<T>(call, 0), output<Out>(call), a.batch,
                                                   a.rows, a.width};
    launch_columns(call, kernel);
  });
}

void causal_softmax(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  const CausalBlock block = causal_block(call);
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const CausalSoftmax<T, Accumulator<T>, Views> kernel{input<T, Views>(call, 0),
                                                         output<T, Views>(call), block};
    launch(call, a.batch * a.rows, block.block_end, kernel);
  });
}

void softmax_grad(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  const CausalBlock block = causal_block(call);
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const SoftmaxGrad<T, Accumulator<T>, Views> kernel{
        input<T, Views>(call, 0), input<T, Views>(call, 1), output<T, Views>(call), block};
    launch(call, a.batch * a.rows, block.block_end, kernel);
  });
}

void embedding(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    const Embedding<T, Accumulator<T>> kernel{call.inputs[0].as<const int32_t>(), input<T>(call, 1),
                                              output<T>(call), a.width};
    launch(call, a.rows, a.width, kernel);
  });
}

void embedding_grad(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  const int64_t table_rows = call.outputs[0].elements() / a.width;
  const TokenGroups groups = group_tokens(call, a.rows, table_rows);
  with_result_and_input(call, 1, [&]<class Out, class T>(Out, T) {
    const EmbeddingGrad<Out, T, Accumulator<T>> kernel{groups, input<T>(call, 1), output<Out>(call),
                                                       a.width};
    launch(call, table_rows, a.width, kernel);
  });
}

void cross_entropy(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_views_and_type(call, call.inputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const CrossEntropy<T, Accumulator<T>, Views> kernel{input<T, Views>(call, 0),
                                                        call.inputs[1].as<const int32_t>(),
                                                        statistic_output<T, Views>(call, 0),
                                                        statistic_output<T, Views>(call, 1),
                                                        a.width,
                                                        a.stride};
    launch(call, a.batch * a.rows, a.width, kernel);
  });
}

void cross_entropy_grad(const KernelCall& call) {
  const RowsAttributes& a = rows_of(call);
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const CrossEntropyGrad<T, Accumulator<T>, Views> kernel{statistic<T, Views>(call, 0),
                                                            input<T, Views>(call, 1),
                                                            call.inputs[2].as<const int32_t>(),
                                                            statistic<T, Views>(call, 3),
                                                            output<T, Views>(call),
                                                            a.width,
                                                            a.stride};
    launch(call, a.batch * a.rows, a.stride, kernel);
  });
}

}  // namespace memwall::launchers
