// Spatial averages of z * (H z).
#include "runtime/base/averaging.h"
#include "runtime/kernels/launchers/unit_runs.h"
#include "runtime/kernels/spatial_average.h"

namespace memwall::launchers {
// Other parts' rows that reach into this rank's shard are those of its own first and last element.
void row_partials(const KernelCall& call) {
  const Tensor& d = call.inputs[0];
  const UnitAttributes& a = unit_of(call);
  check(a.averaging_block == kWholeRows, "only whole rows cross the ends of shards");
  check(call.outputs[0].elements() == 2 * a.parts, "the sums of rows are two a part");
  const Range own = range_of(call, d);
  const UnitRow first = row_of_element(*call.unit, own.begin);
  const UnitRow last = row_of_element(*call.unit, own.end - 1);
  // The elements of the row that this shard has, and the entries of the result that name the row:
  // they follow each other, as do its elements.
  const auto share_of = [&](const UnitRow& row) {
    RowShare share;
    if (row.none()) return share;
    share.begin = std::max(row.begin, own.begin) - own.begin;
    share.count = std::max<int64_t>(0, std::min(row.end, own.end) - own.begin - share.begin);
    for (int64_t entry = 0; entry < 2 * a.parts; ++entry) {
      const int64_t element = (entry + 1) / 2 * d.elements() - entry % 2;
      if (row_of_element(*call.unit, element) != row) continue;
      if (share.first_entry == share.end_entry) share.first_entry = entry;
      share.end_entry = entry + 1;
    }
    return share;
  };
  with_float_type(d.dtype, [&]<class T>(T) {
    const RowPartials<T> kernel{d.as<const T>(), call.outputs[0].as<double>(), 2 * a.parts,
                                share_of(first), share_of(last)};
    launch(call, 1, kTile, kernel);
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
    runs.launch(call, kTile);
    const int64_t rest = h.elements() - entries;
    launch_tiles(call, rest, Fill<C, C>{{h.as<C>() + entries}, 0.0, rest});
  });
}

}  // namespace memwall::launchers
