// Counter-based randomness: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
// as 1, 2, 3"), by Random123. A draw is a pure function of (key, stream, index), so the same
// element is drawn on every rank, in recomputation and on every backend.
#pragma once

#include <Random123/philox.h>

#include <array>
#include <cmath>
#include <cstdint>

#include "runtime/base/host_device.h"

namespace memwall {

using RandomBlock = std::array<uint32_t, 4>;

// 128 random bits for block `block` of `stream` under the user's `seed`. `draw`: 0 for initial
// values and dropout, from 1 for the signs of curvature.
MEMWALL_HOST_DEVICE inline RandomBlock random_block(uint64_t seed, uint32_t stream, uint64_t block,
                                                    uint32_t draw = 0) {
  const r123::Philox4x32 philox;
  const r123::Philox4x32::ctr_type counter{
      {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), stream, draw}};
  const r123::Philox4x32::key_type key{
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  const auto bits = philox(counter, key);
  return {bits[0], bits[1], bits[2], bits[3]};
}

// The 32 bits of element `index`: lane index % 4 of block index / 4.
MEMWALL_HOST_DEVICE inline uint32_t random_bits(uint64_t seed, uint32_t stream, uint64_t index) {
  return random_block(seed, stream, index / 4)[index % 4];
}

// -1 or 1: one bit of the block of 128 elements, whose definition kernels/signs.h states.
MEMWALL_HOST_DEVICE inline double random_sign(uint64_t seed, uint32_t stream, uint64_t index,
                                              uint32_t draw) {
  const uint32_t word = random_block(seed, stream, index / 128, draw)[index % 128 / 32];
  return (word >> (index % 32) & 1) != 0 ? -1.0 : 1.0;
}

// (0, 1), never 0 and never 1.
MEMWALL_HOST_DEVICE inline double to_unit_interval(uint32_t bits) {
  return (static_cast<double>(bits) + 0.5) * 0x1.0p-32;
}

// Four standard normals from one block, by Box and Muller (1958).
MEMWALL_HOST_DEVICE inline std::array<double, 4> to_normals(const RandomBlock& bits) {
  std::array<double, 4> out{};
  for (size_t pair = 0; pair < 2; ++pair) {
    const double radius = std::sqrt(-2.0 * std::log(to_unit_interval(bits[2 * pair])));
    const double angle = 6.283185307179586476925286766559 * to_unit_interval(bits[2 * pair + 1]);
    out[2 * pair] = radius * std::cos(angle);
    out[2 * pair + 1] = radius * std::sin(angle);
  }
  return out;
}

}  // namespace memwall
