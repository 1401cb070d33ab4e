// Kernels on the runs of a unit's buffer, each of one tensor or of padding.
#pragma once

#include <vector>

#include "runtime/base/scalars.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/segments.h"

namespace memwall::launchers {

inline const UnitAttributes& unit_of(const KernelCall& call) {
  return std::get<UnitAttributes>(call.attributes);
}

struct Range {
  int64_t begin, end;
};

// What elements of the unit the buffer holds: all, or this rank's shard.
inline Range range_of(const KernelCall& call, const Tensor& buffer) {
  check(call.unit != nullptr, "the kernel needs its unit");
  const int64_t count = buffer.elements(), parts = unit_of(call).parts;
  check(count * parts == call.unit->padded, "the buffer is not the stated part of its unit");
  const int64_t begin = parts == 1 ? 0 : call.rank * count;
  return {begin, begin + count};
}

// Several kernels in one launch. `elements` a row, as a measure of its work.
template <class Kernel>
class RunList {
 public:
  void add(const Kernel& kernel, int64_t rows) {
    rows_ += rows;
    runs_.push_back({kernel, rows_});
  }
  void launch(const KernelCall& call, int64_t elements) const {
    launch_list(call, runs_, elements);
  }

 private:
  std::vector<Run<Kernel>> runs_;
  int64_t rows_ = 0;
};

// All runs of the range, in tiles. kernel_of(begin, end, segment) is that of elements [begin, end)
// of the unit; segment is nullptr for padding.
template <class KernelOf>
void launch_runs(const KernelCall& call, const Range& range, const KernelOf& kernel_of) {
  RunList<decltype(kernel_of(int64_t{}, int64_t{}, static_cast<const Segment*>(nullptr)))> runs;
  each_run(*call.unit, range.begin, range.end,
           [&](int64_t begin, int64_t end, const Segment* segment) {
             runs.add(kernel_of(begin, end, segment), ceil_div(end - begin, kTile));
           });
  runs.launch(call, kTile);
}

}  // namespace memwall::launchers
