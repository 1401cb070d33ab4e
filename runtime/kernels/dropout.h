// Dropout (Srivastava et al. 2014). The mask is a function of the seed, the site and the element's
// global index alone: see DropoutAttributes.
#pragma once

#include "runtime/kernels/random.h"
#include "runtime/kernels/team.h"

namespace memwall {

// 1 where the bits are at least `threshold`, else 0.
inline void mark_kept(const uint32_t (&bits)[kBitsDrawn], uint32_t threshold,
                      float (&kept)[kBitsDrawn]) {
  using Bits = Pack<uint32_t>::Register;
  const Bits one = Bits{} + bit_pattern<uint32_t>(1.0f), zero{};
  for (int i = 0; i < kBitsDrawn; i += Pack<uint32_t>::kRegisterLanes) {
    Bits drawn;
    std::memcpy(&drawn, bits + i, sizeof(drawn));
    drawn = drawn >= threshold ? one : zero;
    std::memcpy(kept + i, &drawn, sizeof(drawn));
  }
}

template <class Out, class T, class C>
struct Dropout {
  Input<T, C> x;
  const int64_t* sample_index;
  Output<Out, C> y;
  uint64_t seed;
  uint32_t site;
  uint32_t threshold;  // kept where the bits are at least this
  C scale;             // 1 / (1 - rate)
  int64_t heads, rows, width;
  int64_t total_rows, first_row;

  // The global index of column 0 of row (sample, head, r).
  uint64_t first_element(int64_t row) const {
    const int64_t r = row % rows, head = row / rows % heads, sample = row / rows / heads;
    const int64_t global_row = (sample_index[sample] * heads + head) * total_rows + first_row + r;
    return static_cast<uint64_t>(global_row * width);
  }

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto in = x.from(row * width);
    const auto out = y.from(row * width);
    const uint64_t first = first_element(row);
    // Column c is drawn as entry c + lead of the blocks from first / 4 on.
    const int64_t lead = static_cast<int64_t>(first % 4);
    for (int64_t base = -lead; base < width; base += kBitsDrawn) {
      uint32_t bits[kBitsDrawn];
      draw_blocks(seed, site, first / 4 + static_cast<uint64_t>(base + lead) / 4, bits);
      float kept[kBitsDrawn];
      mark_kept(bits, threshold, kept);
      const int64_t begin = std::max<int64_t>(base, 0);
      const Input<float, C> mark{kept + (begin - base)};
      const auto from = in.from(begin);
      const auto to = out.from(begin);
      team.each(0, std::min(width, base + kBitsDrawn) - begin, [&](auto at) {
        const decltype(mark(at)) zero = C{0};
        to.store(at, where_less(zero, mark(at), from(at) * scale, zero));
      });
    }
  }
};

}  // namespace memwall
