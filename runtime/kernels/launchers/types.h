// Choosing a kernel's types and views from a call's operands. The launchers are the same text for
// both targets: each calls `launch` of its target (cpu/launch.h, cuda/launch.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

#include "launch.h"  // of the target: cpu/ or cuda/
#include "runtime/base/error.h"
#include "runtime/base/math.h"
#include "runtime/kernels/dual.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/kernel.h"
#include "runtime/kernels/launchers/launchers.h"
#include "runtime/kernels/team.h"

namespace memwall::launchers {

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
    default: throw InternalError("no kernel for " + std::string(name_of(dtype)));
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
      throw InternalError("no kernel with an operand of " + std::string(name_of(dtype)));
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

}  // namespace memwall::launchers
