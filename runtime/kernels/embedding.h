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
  void operator()(Team& team, int64_t row) const {
    const auto from = table.from(indices[row] * width);
    const auto to = y.from(row * width);
    team.template each<4 * kLanes>(0, width, [&](auto at) { to.store(at, from(at)); });
  }
};

// The positions of the tokens, grouped by table row, in order within a row: those of row r are
// positions[begin(r)] ... positions[end(r) - 1].
struct TokenGroups {
  int32_t* ends;       // (table rows + 1): end of each group; the last entry is scratch
  int32_t* positions;  // (tokens)

  int64_t begin(int64_t row) const { return row == 0 ? 0 : ends[row - 1]; }
  int64_t end(int64_t row) const { return ends[row]; }
};

// Counting sort.
inline TokenGroups group_tokens(const int32_t* indices, int64_t tokens, int64_t table_rows,
                                int32_t* workspace) {
  const TokenGroups groups{workspace, workspace + table_rows + 1};
  int32_t* starts = groups.ends;
  std::fill(starts, starts + table_rows + 1, 0);
  for (int64_t i = 0; i < tokens; ++i) ++starts[indices[i] + 1];
  for (int64_t row = 0; row < table_rows; ++row) starts[row + 1] += starts[row];
  // Placing the tokens of a row moves its start to its end.
  for (int64_t i = 0; i < tokens; ++i) {
    groups.positions[starts[indices[i]]++] = static_cast<int32_t>(i);
  }
  return groups;
}

// dtable[row] = sum of dy over the row's tokens, in position order.
template <class Out, class T, class C>
struct EmbeddingGrad {
  TokenGroups groups;
  Input<T, C> dy;
  Output<Out, C> dtable;
  int64_t width;

  template <class Team>
  void operator()(Team& team, int64_t row) const {
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
