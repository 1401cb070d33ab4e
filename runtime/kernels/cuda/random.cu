// Dropout and random signs on the GPU: a thread draws the bits of its own elements. The bits are
// those of kernels/dropout.h and kernels/signs.h.
#include <cmath>
#include <optional>

#include "runtime/base/rng.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/launchers/unit_runs.h"
#include "runtime/kernels/step_control.h"

namespace memwall::launchers {
namespace {

template <class Out, class T, class C>
struct DropoutElements {
  Input<T, C> x;
  const int64_t* sample_index;
  Output<Out, C> y;
  uint64_t seed;
  uint32_t site, threshold;  // kept where the bits are at least this
  C scale;
  int64_t heads, rows, width, total_rows, first_row;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const int64_t r = row % rows, head = row / rows % heads, sample = row / rows / heads;
    const int64_t global_row = (sample_index[sample] * heads + head) * total_rows + first_row + r;
    const auto first = static_cast<uint64_t>(global_row * width);
    const auto in = x.from(row * width);
    const auto out = y.from(row * width);
    team.each(0, width, [&](auto at) {
      auto v = in(at)*scale;
      const uint64_t element = first + static_cast<uint64_t>(at.first);
      RandomBlock bits = random_block(seed, site, element / 4);
      for (int i = 0; i < kLanes; ++i) {
        const uint64_t index = element + static_cast<uint64_t>(i);
        if (i > 0 && index % 4 == 0) bits = random_block(seed, site, index / 4);
        if (bits[index % 4] < threshold) v.part[i] = C{0};
      }
      out.store(at, v);
    });
  }
};

// The signs of one tensor of a unit, or zeros of padding.
struct Signs {
  uint64_t seed;
  const double* scalars;
  uint32_t tensor;
  bool padding;

  // times `magnitude`, for the elements of a pack.
  template <class C, class At>
  MEMWALL_HOST_DEVICE Pack<C> at(At where, C magnitude) const {
    Pack<C> z = padding ? C{0} : magnitude;
    if (padding) return z;
    const auto draw = static_cast<uint32_t>(scalar(scalars, Scalar::kDraw));
    // Packs begin at multiples of kLanes, which divides a word's 32 signs.
    const auto element = static_cast<uint64_t>(where.first);
    const uint32_t word = random_block(seed, tensor, element / 128, draw)[element % 128 / 32];
    for (int i = 0; i < kLanes; ++i) {
      if ((word >> (element % 32 + static_cast<uint64_t>(i)) & 1) != 0) z.part[i] = -z.part[i];
    }
    return z;
  }
};

Signs signs_of(const KernelCall& call, const double* scalars, const Segment* segment) {
  return {static_cast<uint64_t>(unit_of(call).seed), scalars,
          segment != nullptr ? segment->index : 0, segment == nullptr};
}

template <class T, class C>
struct SignElements {
  Output<T, C> z;
  Signs signs;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const C magnitude = static_cast<C>(scalar(signs.scalars, Scalar::kSignScale));
    each_of_tile(team, row, count, [&](auto at) { z.store(at, signs.at(at, magnitude)); });
  }
};

template <class Out, class T, class C>
struct SignProductElements {
  Input<T, C> x;
  Output<Out, C> y;
  Signs signs;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    each_of_tile(team, row, count, [&](auto at) { y.store(at, signs.at(at, C{1}) * x(at)); });
  }
};

}  // namespace

void dropout(const KernelCall& call) {
  const auto& a = std::get<DropoutAttributes>(call.attributes);
  const double threshold = std::min(std::ceil(a.rate * 0x1p32), 0x1p32 - 1);
  with_result_and_input(call, 0, [&]<class Out, class T>(Out, T) {
    using C = Accumulator<T>;
    const DropoutElements<Out, T, C> kernel{.x = input<T>(call, 0),
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
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    launch_runs(call, range_of(call, call.outputs[0]),
                [&](int64_t begin, int64_t end, const Segment* segment) {
                  return SignElements<T, Accumulator<T>>{{call.outputs[0].as<T>() + begin},
                                                         signs_of(call, scalars, segment),
                                                         end - begin};
                });
  });
}

void sign_product(const KernelCall& call) {
  const double* const scalars = call.inputs[1].as<const double>();
  with_result_and_input(call, 0, [&]<class Out, class T>(Out, T) {
    using C = Accumulator<T>;
    launch_runs(call, range_of(call, call.outputs[0]),
                [&](int64_t begin, int64_t end, const Segment* segment) {
                  return SignProductElements<Out, T, C>{
                      input<T>(call, 0).from(begin), output<Out>(call).from(begin),
                      signs_of(call, scalars, segment), end - begin};
                });
  });
}

}  // namespace memwall::launchers
