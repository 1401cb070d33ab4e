// Softmax over the columns a causal query may see, and its gradient. Rows are (head, query): row
// h * rows + r is query first_query + r and sees columns 0 ... first_query + r. Columns behind
// them up to `block_end` are written as zero; those from `block_end` on are not touched.
#pragma once

#include "runtime/kernels/team.h"
#include "runtime/kernels/vector_math.h"

namespace memwall {

struct CausalBlock {
  int64_t rows, stride;
  int64_t first_query, block_end;
  int64_t width;

  MEMWALL_HOST_DEVICE int64_t visible(int64_t row) const {
    return std::min(first_query + row % rows + 1, width);
  }
};

template <class T, class C, class Views = ValueViews>
struct CausalSoftmax {
  InputOf<Views, T, C> scores;
  OutputOf<Views, T, C> p;
  CausalBlock block;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto in = scores.from(row * block.stride);
    const auto out = p.from(row * block.stride);
    const int64_t visible = block.visible(row);
    const auto peak = team.max(visible, [&](auto at) { return in(at); });
    // Stored on the way, exponentials save a second exp; narrow ones would be rounded twice.
    constexpr bool kKept = std::is_same_v<T, C>;
    const auto total = team.sum(visible, [&](auto at) {
      const auto e = exp(in(at)-peak);
      if constexpr (kKept) out.store(at, e);
      return e;
    });
    const auto scale = C{1} / total;
    const auto kept = out.stored();
    team.each(0, visible,
              [&](auto at) { out.store(at, (kKept ? kept(at) : exp(in(at)-peak)) * scale); });
    team.each(visible, block.block_end, [&](auto at) { out.store(at, C{0}); });
  }
};

// ds = p (dp - sum(p dp)).
template <class T, class C, class Views = ValueViews>
struct SoftmaxGrad {
  InputOf<Views, T, C> dp, p;
  OutputOf<Views, T, C> ds;
  CausalBlock block;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto upper = dp.from(row * block.stride), weight = p.from(row * block.stride);
    const auto out = ds.from(row * block.stride);
    const int64_t visible = block.visible(row);
    const auto mean = team.sum(visible, [&](auto at) { return upper(at) * weight(at); });
    team.each(0, visible, [&](auto at) { out.store(at, weight(at) * (upper(at) - mean)); });
    team.each(visible, block.block_end, [&](auto at) { out.store(at, C{0}); });
  }
};

}  // namespace memwall
