#include "runtime/kernels/elementwise.h"

#include "runtime/kernels/gelu.h"
#include "runtime/kernels/launchers/types.h"

namespace memwall::launchers {

void fill(const KernelCall& call) {
  const auto& a = std::get<FillAttributes>(call.attributes);
  const double* const factor =
      a.scalar >= 0 ? call.inputs[0].as<const double>() + a.scalar : nullptr;
  const int64_t count = call.outputs[0].elements();
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    const Fill<T, Accumulator<T>> kernel{output<T>(call), a.value, count, factor};
    launch_tiles(call, count, kernel);
  });
}

void copy(const KernelCall& call) {
  const int64_t count = call.outputs[0].elements();
  with_float_type(call.outputs[0].dtype, [&]<class To>(To) {
    with_float_type(call.inputs[0].dtype, [&]<class From>(From) {
      using C = std::common_type_t<Accumulator<To>, Accumulator<From>>;
      if constexpr (kIsNarrow<To> && std::is_same_v<C, double>) {
        throw InternalError("FP64 is not copied to a 16-bit type");
      } else {
        const Copy<To, From, C> kernel{
            {call.inputs[0].as<const From>()}, {call.outputs[0].as<To>(), call.accumulate}, count};
        launch_tiles(call, count, kernel);
      }
    });
  });
}

void add(const KernelCall& call) {
  const int64_t count = call.outputs[0].elements();
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    with_operand_type<T>(call.inputs[0].dtype, [&]<class A>(A) {
      with_operand_type<T>(call.inputs[1].dtype, [&]<class B>(B) {
        const Add<T, A, B, C> kernel{input<A>(call, 0), input<B>(call, 1), output<T>(call), count};
        launch_tiles(call, count, kernel);
      });
    });
  });
}

void bias(const KernelCall& call) {
  const auto& a = std::get<RowsAttributes>(call.attributes);
  const int64_t tiles = ceil_div(a.width, kTile);
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    const Bias<T, Accumulator<T>> kernel{
        input<T>(call, 0), input<T>(call, 1), output<T>(call), a.rows, a.width, tiles};
    launch(call, a.batch * a.rows * tiles, std::min(a.width, kTile), kernel);
  });
}

void gelu(const KernelCall& call) {
  const int64_t count = call.outputs[0].elements();
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const Gelu<T, Accumulator<T>, Views> kernel{input<T, Views>(call, 0), output<T, Views>(call),
                                                count};
    launch_tiles(call, count, kernel);
  });
}

void gelu_grad(const KernelCall& call) {
  const int64_t count = call.outputs[0].elements();
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const GeluGrad<T, Accumulator<T>, Views> kernel{
        input<T, Views>(call, 0), input<T, Views>(call, 1), output<T, Views>(call), count};
    launch_tiles(call, count, kernel);
  });
}

}  // namespace memwall::launchers
