#include "runtime/kernels/elementwise.h"

#include <cmath>

#include "runtime/kernels/cpu/launch.h"
#include "runtime/kernels/dropout.h"
#include "runtime/kernels/gelu.h"

namespace memwall::cpu {

void fill(const KernelCall& call) {
  const auto& a = std::get<FillAttributes>(call.attributes);
  double value = a.value;
  if (a.scalar >= 0) value *= call.inputs[0].as<const double>()[a.scalar];
  const int64_t count = call.outputs[0].elements();
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    const Fill<T, C> kernel{output<T>(call), static_cast<C>(value), count};
    launch_tiles(call.threads, count, kernel);
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
        launch_tiles(call.threads, count, kernel);
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
        launch_tiles(call.threads, count, kernel);
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
    launch(call.threads, a.batch * a.rows * tiles, std::min(a.width, kTile), kernel);
  });
}

void gelu(const KernelCall& call) {
  const int64_t count = call.outputs[0].elements();
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const Gelu<T, Accumulator<T>, Views> kernel{input<T, Views>(call, 0), output<T, Views>(call),
                                                count};
    launch_tiles(call.threads, count, kernel);
  });
}

void gelu_grad(const KernelCall& call) {
  const int64_t count = call.outputs[0].elements();
  with_views_and_type(call, call.outputs[0].dtype, [&]<class Views, class T>(Views, T) {
    const GeluGrad<T, Accumulator<T>, Views> kernel{
        input<T, Views>(call, 0), input<T, Views>(call, 1), output<T, Views>(call), count};
    launch_tiles(call.threads, count, kernel);
  });
}

void dropout(const KernelCall& call) {
  const auto& a = std::get<DropoutAttributes>(call.attributes);
  // bits >= rate * 2^32 for whole bits; a rate so near 1 that this is 2^32 keeps one in 2^32.
  const double threshold = std::min(std::ceil(a.rate * 0x1p32), 0x1p32 - 1);
  with_result_and_input(call, 0, [&]<class Out, class T>(Out, T) {
    using C = Accumulator<T>;
    const Dropout<Out, T, C> kernel{.x = input<T>(call, 0),
                                    .sample_index = call.inputs[1].as<const int64_t>(),
                                    .y = output<Out>(call),
                                    .seed = static_cast<uint64_t>(a.seed),
                                    .site = static_cast<uint32_t>(a.site),
                                    .threshold = static_cast<uint32_t>(threshold),
                                    .scale = static_cast<C>(1.0 / (1.0 - a.rate)),
                                    .heads = a.heads,
                                    .rows = a.rows,
                                    .width = a.width,
                                    .total_rows = a.total_rows,
                                    .first_row = call.iteration % a.period * a.rows};
    launch(call.threads, a.samples * a.heads * a.rows, a.width, kernel);
  });
}

}  // namespace memwall::cpu
