// Rows of a table by index, and the table's gradient.
#pragma once

#include "runtime/kernels/team.h"

namespace memwall {

// y[row] = table[indices[row]].
template <class T, class C>
struct Embedding {
  const int32_t* indices;
  Input<T, C> table;
  Output<T, C> y;
  int64_t width;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto from = table.from(indices[row] * width);
    const auto to = y.from(row * width);
    team.template each<4 * kLanes>(0, width, [&](auto at) { to.store(at, from(at)); });
  }
};

// The positions of the tokens, grouped by table row, in order within a row: those of row r are
// positions[begin(r)] ... positions[end(r) - 1].
struct TokenGroups {
  const int32_t* ends;       // (table rows)
  const int32_t* positions;  // (tokens)
  const int32_t* begins;     // (table rows); nullptr: a group begins where the one before ends

  MEMWALL_HOST_DEVICE int64_t begin(int64_t row) const {
    if (begins != nullptr) return begins[row];
    return row == 0 ? 0 : ends[row - 1];
  }
  MEMWALL_HOST_DEVICE int64_t end(int64_t row) const { return ends[row]; }
};

// dtable[row] = sum of dy over the row's tokens, in position order.
template <class Out, class T, class C>
struct EmbeddingGrad {
  TokenGroups groups;
  Input<T, C> dy;
  Output<Out, C> dtable;
  int64_t width;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const int64_t begin = groups.begin(row), end = groups.end(row);
    if (dtable.accumulate && begin == end) return;
    const auto out = dtable.from(row * width);
    team.template each<4 * kLanes>(0, width, [&](auto at) {
      Pack<C, decltype(at)::kSize> total = C{0};
      for (int64_t i = begin; i < end; ++i) {
        total = total + dy.from(groups.positions[i] * width)(at);
      }
      out.store(at, total);
    });
  }
};

}  // namespace memwall
