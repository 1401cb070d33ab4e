// Tiles of matrices into FP32 panels and back.
#pragma once

#include "runtime/kernels/team.h"

namespace memwall {

// to[line * to_line + i * to_step] = from[line * from_line + i * from_step], i < length, rounded
// once to the type of `to`.
template <class To, class From>
struct CopyLines {
  const From* from;
  int64_t from_line, from_step;
  To* to;
  int64_t to_line, to_step;
  int64_t length;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t line) const {
    const Input<From, float> in{from + line * from_line};
    const Output<To, float> out{to + line * to_line};
    if (from_step == 1 && to_step == 1) {
      team.template each<4 * kLanes>(0, length, [&](auto at) { out.store(at, in(at)); });
      return;
    }
    team.lead([&] {
      for (int64_t i = 0; i < length; ++i) out.set(i * to_step, in.scalar(i * from_step));
    });
  }
};

}  // namespace memwall
