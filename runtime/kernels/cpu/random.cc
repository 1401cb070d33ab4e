// Dropout and random signs: bits drawn many at a time.
#include <cmath>

#include "runtime/kernels/dropout.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/launchers/unit_runs.h"
#include "runtime/kernels/signs.h"
#include "runtime/kernels/step_control.h"

namespace memwall::launchers {
namespace {

SignSource sign_source(const KernelCall& call, const double* scalars, const Segment* segment) {
  SignSource source{static_cast<uint64_t>(unit_of(call).seed),
                    static_cast<uint32_t>(scalar(scalars, Scalar::kDraw)), std::nullopt};
  if (segment != nullptr) source.tensor = segment->index;
  return source;
}

}  // namespace

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
    launch(call, a.samples * a.heads * a.rows, a.width, kernel);
  });
}

void sign(const KernelCall& call) {
  const double* const scalars = call.inputs[0].as<const double>();
  const double magnitude = scalar(scalars, Scalar::kSignScale);
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    launch_runs(call, range_of(call, call.outputs[0]),
                [&](int64_t begin, int64_t end, const Segment* segment) {
                  return Sign<T>{
                      call.outputs[0].as<T>() + begin, sign_source(call, scalars, segment),
                      static_cast<T>(static_cast<Accumulator<T>>(magnitude)), end - begin};
                });
  });
}

void sign_product(const KernelCall& call) {
  const double* const scalars = call.inputs[1].as<const double>();
  with_result_and_input(call, 0, [&]<class Out, class T>(Out, T) {
    using C = Accumulator<T>;
    launch_runs(call, range_of(call, call.outputs[0]),
                [&](int64_t begin, int64_t end, const Segment* segment) {
                  return SignProduct<Out, T, C>{input<T>(call, 0).from(begin),
                                                output<Out>(call).from(begin),
                                                sign_source(call, scalars, segment), end - begin};
                });
  });
}

}  // namespace memwall::launchers
