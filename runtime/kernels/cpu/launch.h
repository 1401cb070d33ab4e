// Starting kernels on threads of the CPU, and choosing their types.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

#include "runtime/base/error.h"
#include "runtime/base/math.h"
#include "runtime/kernels/dual.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/kernel.h"
#include "runtime/kernels/team.h"

namespace memwall::cpu {

// Below this many elements a second thread costs more than it brings.
inline constexpr int64_t kSerialElements = 16384;

// kernel(team, row) for every row; `elements` a row, as a measure of its work.
template <class Kernel>
void launch(int threads, int64_t rows, int64_t elements, const Kernel& kernel) {
  if (threads <= 1 || rows <= 1 || rows * elements < kSerialElements) {
    CpuTeam team;
    for (int64_t row = 0; row < rows; ++row) kernel(team, row);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    CpuTeam team;
    kernel(team, row);
  }
}

template <class Kernel>
void launch_tiles(int threads, int64_t elements, const Kernel& kernel) {
  launch(threads, ceil_div(elements, kTile), kTile, kernel);
}

// The type that a value of dtype T is computed with.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

// f(T{}) for the floating-point type T of `dtype`.
template <class F>
void with_float_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kF16: return f(Half{0.0f});
    case DType::kBF16: return f(BFloat16{0.0f});
    case DType::kF32: return f(float{});
    case DType::kF64: return f(double{});
    default: throw InternalError("no CPU kernel for " + std::string(name_of(dtype)));
  }
}

// f(T{}) for the type T of an operand of an op whose result is of type Out: the same, or, for FP32,
// a narrower one.
template <class Out, class F>
void with_operand_type(DType dtype, const F& f) {
  with_float_type(dtype, [&]<class T>(T zero) {
    if constexpr (std::is_same_v<T, Out> || (std::is_same_v<Out, float> && kIsNarrow<T>)) {
      f(zero);
    } else {
      throw InternalError("no CPU kernel with an operand of " + std::string(name_of(dtype)));
    }
  });
}

// f(Out{}, In{}) for the types of the first result and of input `i`.
template <class F>
void with_result_and_input(const KernelCall& call, size_t i, const F& f) {
  with_float_type(call.outputs[0].dtype, [&]<class Out>(Out out) {
    with_operand_type<Out>(call.inputs[i].dtype, [&](auto in) { f(out, in); });
  });
}

// f(DualViews{}) for a dual call, else f(ValueViews{}).
template <class F>
void with_views(const KernelCall& call, const F& f) {
  call.dual ? f(DualViews{}) : f(ValueViews{});
}

// f(Views{}, T{}), f(Views{}, Out{}, In{}): the views of the call and the types as above.
template <class F>
void with_views_and_type(const KernelCall& call, DType dtype, const F& f) {
  with_views(call, [&](auto views) { with_float_type(dtype, [&](auto type) { f(views, type); }); });
}
template <class F>
void with_views_and_result(const KernelCall& call, size_t i, const F& f) {
  with_views(call, [&](auto views) {
    with_result_and_input(call, i, [&](auto out, auto in) { f(views, out, in); });
  });
}

// Of a dual call: the tangents of input `i` and of output `i`.
inline const Tensor& input_tangent(const KernelCall& call, size_t i) {
  const auto floating = [](const Tensor& t) { return is_floating(t.dtype); };
  const auto inputs = call.inputs;
  const auto values_only = std::count_if(inputs.begin(), inputs.end(), std::not_fn(floating));
  // Every value but those has a tangent: 2 * values - values_only = inputs.
  const size_t values = (inputs.size() + static_cast<size_t>(values_only)) / 2;
  const auto before =
      std::count_if(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(i), floating);
  const size_t at = values + static_cast<size_t>(before);
  check(i < values && at < inputs.size() && inputs[at].dtype == inputs[i].dtype,
        "an input without its tangent");
  return inputs[at];
}
inline const Tensor& output_tangent(const KernelCall& call, size_t i) {
  const size_t values = call.outputs.size() / 2, at = values + i;
  check(i < values && call.outputs[at].dtype == call.outputs[i].dtype,
        "a result without its tangent");
  return call.outputs[at];
}

template <class T, class Views = ValueViews, class C = Accumulator<T>>
InputOf<Views, T, C> input(const KernelCall& call, size_t i) {
  const Input<T, C> value{call.inputs[i].as<const T>()};
  if constexpr (std::is_same_v<Views, DualViews>) {
    return {value, {input_tangent(call, i).as<const T>()}};
  } else {
    return value;
  }
}
// A statistic or loss of a tensor of T: FP32 for the narrow types.
template <class T, class Views = ValueViews>
InputOf<Views, Accumulator<T>> statistic(const KernelCall& call, size_t i) {
  return input<Accumulator<T>, Views>(call, i);
}
template <class T, class Views = ValueViews, class C = Accumulator<T>>
OutputOf<Views, T, C> output(const KernelCall& call, size_t i = 0) {
  const bool accumulate = i == 0 && call.accumulate;
  const Output<T, C> value{call.outputs[i].as<T>(), accumulate};
  if constexpr (std::is_same_v<Views, DualViews>) {
    return {value, {output_tangent(call, i).as<T>(), accumulate}};
  } else {
    return value;
  }
}
template <class T, class Views = ValueViews>
OutputOf<Views, Accumulator<T>> statistic_output(const KernelCall& call, size_t i) {
  return output<Accumulator<T>, Views>(call, i);
}

// The kernels of the table, by source file.
void fill(const KernelCall& call);
void copy(const KernelCall& call);
void add(const KernelCall& call);
void bias(const KernelCall& call);
void gelu(const KernelCall& call);
void gelu_grad(const KernelCall& call);
void dropout(const KernelCall& call);

void layer_norm(const KernelCall& call);
void layer_norm_grad(const KernelCall& call);
void layer_norm_scale_grad(const KernelCall& call);
void causal_softmax(const KernelCall& call);
void softmax_grad(const KernelCall& call);
void embedding(const KernelCall& call);
void embedding_grad(const KernelCall& call);
void cross_entropy(const KernelCall& call);
void cross_entropy_grad(const KernelCall& call);

void column_sum(const KernelCall& call);
void sum(const KernelCall& call);
void sum_squares(const KernelCall& call);
void sum_parts(const KernelCall& call);

void sign(const KernelCall& call);
void sign_product(const KernelCall& call);
void row_partials(const KernelCall& call);
void spatial_average(const KernelCall& call);

void gemm(const KernelCall& call);

void bias_gelu(const KernelCall& call);
void add_layer_norm(const KernelCall& call);
void gelu_grad_columns(const KernelCall& call);
void layer_norm_grads(const KernelCall& call);

void initialize(const KernelCall& call);
void step_control(const KernelCall& call);
void adamw(const KernelCall& call);
void sgd(const KernelCall& call);
void adahessian(const KernelCall& call);

}  // namespace memwall::cpu
