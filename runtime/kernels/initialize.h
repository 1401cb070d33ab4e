// First values of parameters: constants, or normals drawn by (seed, segment, element), so that
// every rank draws its shard of the same tensors.
#pragma once

#include "runtime/base/rng.h"
#include "runtime/base/unit.h"
#include "runtime/kernels/elementwise.h"

namespace memwall {

// Elements [first, first + count) of a segment, to p[0 ... count): of a 16-bit type the FP32 value,
// rounded, as the update rounds its FP32 parameters.
template <class T>
struct InitializeNormal {
  T* p;
  uint64_t seed;
  uint32_t stream;
  double deviation;
  int64_t first, count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    team.lead([&] {
      const int64_t end = std::min(count, (row + 1) * kTile);
      for (int64_t i = row * kTile; i < end;) {
        const uint64_t element = static_cast<uint64_t>(first + i);
        const auto normals = to_normals(random_block(seed, stream, element / 4));
        for (uint64_t j = element % 4; j < 4 && i < end; ++j, ++i) {
          p[i] = static_cast<T>(normals[j] * deviation);
        }
      }
    });
  }
};

}  // namespace memwall
