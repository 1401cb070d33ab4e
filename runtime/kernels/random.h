// Philox blocks (runtime/base/rng.h) sixteen at a time: the same bits, in vector registers.
#pragma once

#include <cstdint>

#include "runtime/base/rng.h"

namespace memwall {

inline constexpr int kBlocksDrawn = 16;
inline constexpr int kBitsDrawn = 4 * kBlocksDrawn;

// bits[4 * i + j] = random_block(seed, stream, first_block + i)[j].
inline void draw_blocks(uint64_t seed, uint32_t stream, uint64_t first_block,
                        uint32_t (&bits)[kBitsDrawn]) {
  constexpr int kRounds = 10;
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  // Counter words in 64-bit lanes, upper halves zero: products are whole there.
  uint64_t c0[kBlocksDrawn], c1[kBlocksDrawn], c2[kBlocksDrawn], c3[kBlocksDrawn];
  for (int i = 0; i < kBlocksDrawn; ++i) {
    const uint64_t block = first_block + static_cast<uint64_t>(i);
    c0[i] = block & 0xffffffff;
    c1[i] = block >> 32;
    c2[i] = stream;
    c3[i] = 0;
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
    for (int i = 0; i < kBlocksDrawn; ++i) {
      const uint64_t p0 = (c0[i] & 0xffffffff) * kMultiplier0;
      const uint64_t p1 = (c2[i] & 0xffffffff) * kMultiplier1;
      c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = p1 & 0xffffffff;
      c2[i] = (p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = p0 & 0xffffffff;
    }
  }
  for (int i = 0; i < kBlocksDrawn; ++i) {
    bits[4 * i] = static_cast<uint32_t>(c0[i]);
    bits[4 * i + 1] = static_cast<uint32_t>(c1[i]);
    bits[4 * i + 2] = static_cast<uint32_t>(c2[i]);
    bits[4 * i + 3] = static_cast<uint32_t>(c3[i]);
  }
}

}  // namespace memwall
