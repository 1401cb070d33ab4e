// Random signs, and spatial averages of z * (H z).
#include <cstring>

#include "runtime/base/averaging.h"
#include "runtime/kernels/cpu/unit_runs.h"
#include "runtime/kernels/signs.h"
#include "runtime/kernels/spatial_average.h"

namespace memwall::cpu {
namespace {

SignSource sign_source(const KernelCall& call, const double* scalars, const Segment* segment) {
  SignSource source{static_cast<uint64_t>(unit_of(call).seed),
                    static_cast<uint32_t>(scalar(scalars, Scalar::kDraw)), std::nullopt};
  if (segment != nullptr) source.tensor = segment->index;
  return source;
}

}  // namespace

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

// Other parts' rows that reach into this rank's shard are those of its own first and last element.
void row_partials(const KernelCall& call) {
  const Tensor& d = call.inputs[0];
  const UnitAttributes& a = unit_of(call);
  check(a.averaging_block == kWholeRows, "only whole rows cross the ends of shards");
  check(call.outputs[0].elements() == 2 * a.parts, "the sums of rows are two a part");
  const Range own = range_of(call, d);
  double* const sums = call.outputs[0].as<double>();
  with_float_type(d.dtype, [&]<class T>(T) {
    const auto share = [&](const UnitRow& row) {
      CpuTeam team;
      const int64_t begin = std::max(row.begin, own.begin), end = std::min(row.end, own.end);
      if (begin >= end) return 0.0;
      return sum_of_magnitudes(team, d.as<const T>() + (begin - own.begin), end - begin);
    };
    const UnitRow first = row_of_element(*call.unit, own.begin);
    const UnitRow last = row_of_element(*call.unit, own.end - 1);
    const double first_share = share(first), last_share = share(last);
    const auto share_of = [&](int64_t element) {
      const UnitRow row = row_of_element(*call.unit, element);
      if (row.none()) return 0.0;
      if (row == first) return first_share;
      return row == last ? last_share : 0.0;
    };
    for (int64_t part = 0; part < a.parts; ++part) {
      sums[2 * part] = share_of(part * d.elements());
      sums[2 * part + 1] = share_of((part + 1) * d.elements() - 1);
    }
  });
}

void spatial_average(const KernelCall& call) {
  const Tensor &d = call.inputs[0], &h = call.outputs[0];
  const UnitAttributes& a = unit_of(call);
  const Range range = range_of(call, d);
  const bool rows = a.averaging_block == kWholeRows && a.parts > 1;
  check(call.inputs.size() == (rows ? 2 : 1), "shards of whole rows need the sums of their ends");
  const double* const ends = rows ? call.inputs[1].as<const double>() : nullptr;
  const int64_t shard = call.unit->shard(call.ranks);
  with_float_type(d.dtype, [&]<class T>(T) {
    using C = Accumulator<T>;
    check(h.dtype == accumulator_of(d.dtype), "averages are FP32, or FP64");
    RunList<SpatialAverage<T, C>> runs;
    int64_t entries = 0;
    each_run(*call.unit, range.begin, range.end,
             [&](int64_t begin, int64_t end, const Segment* segment) {
               if (segment == nullptr) return;
               SpatialAverage<T, C> run{
                   .d = d.as<const T>() + (begin - range.begin),
                   .h = h.as<C>() + entries,
                   .first = begin - segment->offset,
                   .last = end - segment->offset,
                   .entry_elements = entry_elements(*segment, a.averaging_block),
                   .tensor_elements = segment->count,
                   .tensor_offset = segment->offset,
                   .shard = shard};
               if (rows && run.entry_elements > 1) {
                 if (begin == range.begin) run.first_sum = ends;
                 if (end == range.end) run.last_sum = ends + 1;
               }
               entries += run.entries();
               runs.add(run, ceil_div(run.entries(), run.group()));
             });
    check(entries <= h.elements(), "the buffer of averages is too small");
    runs.launch(call.threads, kTile);
    std::memset(h.as<C>() + entries, 0, static_cast<size_t>(h.elements() - entries) * sizeof(C));
  });
}

}  // namespace memwall::cpu
