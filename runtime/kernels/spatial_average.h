// |d| averaged over the entries of base/averaging.h, as a compressed buffer. Sums are formed in
// double precision: an entry's elements of one shard by Team::sum, these sums in the order of the
// shards, so that a whole buffer and its shards give the same bits.
#pragma once

#include <algorithm>

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/vector_math.h"

namespace memwall {

template <class T, class Team>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline double sum_of_magnitudes(Team& team, const T* d,
                                                                           int64_t count) {
  const Input<T, double> in{d};
  return team.sum(count, [&](auto at) { return abs(in(at)); });
}

// The part of a row that a shard has, as elements of the shard, and the entries of RowPartials that
// it belongs to.
struct RowShare {
  int64_t begin = 0, count = 0;
  int64_t first_entry = 0, end_entry = 0;
};

// sums[entry] = the magnitudes of the first or last row's elements in this shard, whichever the
// entry names, else 0.
template <class T>
struct RowPartials {
  const T* d;
  double* sums;
  int64_t entries;
  RowShare first, last;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t) const {
    const double of_first = sum_of_magnitudes(team, d + first.begin, first.count);
    const double of_last = sum_of_magnitudes(team, d + last.begin, last.count);
    team.lead([&] {
      for (int64_t i = 0; i < entries; ++i) {
        const bool in_first = first.first_entry <= i && i < first.end_entry;
        const bool in_last = last.first_entry <= i && i < last.end_entry;
        sums[i] = in_first ? of_first : in_last ? of_last : 0.0;
      }
    });
  }
};

// The entries of elements [first, last) of one tensor, in groups. T: dtype of d, C: of h.
template <class T, class C>
struct SpatialAverage {
  const T* d;  // element `first`
  C* h;        // its entry
  int64_t first, last;
  int64_t entry_elements;  // the last entry may be short
  int64_t tensor_elements;
  int64_t tensor_offset;  // in the unit
  int64_t shard;          // elements: sums are formed shard by shard
  // Sums of the entries with elements first and last - 1 where other shards have elements of
  // theirs.
  const double* first_sum = nullptr;
  const double* last_sum = nullptr;

  // Entries of one row of the kernel, and of the run.
  MEMWALL_HOST_DEVICE int64_t group() const { return std::max<int64_t>(1, kTile / entry_elements); }
  MEMWALL_HOST_DEVICE int64_t entries() const {
    return (last + entry_elements - 1) / entry_elements - first / entry_elements;
  }

  // Where the shard of element `e` of the tensor ends, as an element of the tensor.
  MEMWALL_HOST_DEVICE int64_t end_of_shard(int64_t e) const {
    return ((tensor_offset + e) / shard + 1) * shard - tensor_offset;
  }

  // The sum over elements [begin, end) of the tensor; `shard_end` is moved along.
  template <class Team>
  MEMWALL_HOST_DEVICE double sum(Team& team, int64_t begin, int64_t end, int64_t& shard_end) const {
    double total = 0.0;
    while (begin < end) {
      if (begin >= shard_end) shard_end = end_of_shard(begin);
      const int64_t stop = std::min(end, shard_end);
      total += sum_of_magnitudes(team, d + (begin - first), stop - begin);
      begin = stop;
    }
    return total;
  }

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    if (entry_elements == 1) {
      const Input<T, C> in{d};
      const Output<C> out{h};
      each_of_tile(team, row, last - first, [&](auto at) { out.store(at, abs(in(at))); });
      return;
    }
    int64_t shard_end = 0;
    const int64_t count = entries(), end = std::min(count, (row + 1) * group());
    for (int64_t e = row * group(); e < end; ++e) {
      const int64_t begin = (first / entry_elements + e) * entry_elements;
      const int64_t stop = std::min(begin + entry_elements, tensor_elements);
      double total;
      if (e == 0 && first_sum != nullptr) {
        total = *first_sum;
      } else if (e == count - 1 && last_sum != nullptr) {
        total = *last_sum;
      } else {
        total = sum(team, std::max(begin, first), std::min(stop, last), shard_end);
      }
      team.lead([&] { h[e] = static_cast<C>(total / static_cast<double>(stop - begin)); });
    }
  }
};

}  // namespace memwall
