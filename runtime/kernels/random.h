// Philox blocks (runtime/base/rng.h) sixteen at a time: the same bits, in vector registers.
#pragma once

#include <cstdint>

#include "runtime/kernels/pack.h"

namespace memwall {

inline constexpr int kBlocksDrawn = 16;
inline constexpr int kBitsDrawn = 4 * kBlocksDrawn;

// Counter words of one register of blocks, in 64-bit lanes; only the lower halves count.
using CounterWords = Pack<uint64_t>::Register;
inline constexpr int kBlocksInRegister = Pack<uint64_t>::kRegisterLanes;

// The products of the lower halves.
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline CounterWords multiply_low(CounterWords a,
                                                                            CounterWords b) {
  if constexpr (kRegisterBytes == 64) {
    return bit_pattern<CounterWords>(
        _mm512_maskz_mul_epu32(0xff, bit_pattern<__m512i>(a), bit_pattern<__m512i>(b)));
  } else {
    return (a & 0xffffffff) * (b & 0xffffffff);
  }
}

// Words 0 ... 3 of each block, one block after the other, from pairs of words.
template <size_t... I>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline void store_blocks(std::index_sequence<I...>,
                                                                    CounterWords words01,
                                                                    CounterWords words23,
                                                                    uint32_t* bits) {
  constexpr size_t kCount = kBlocksInRegister;
  const CounterWords first =
      __builtin_shufflevector(words01, words23, (I / 2 + (I % 2) * kCount)...);
  const CounterWords second =
      __builtin_shufflevector(words01, words23, (kCount / 2 + I / 2 + (I % 2) * kCount)...);
  std::memcpy(bits, &first, sizeof(first));
  std::memcpy(bits + sizeof(first) / sizeof(uint32_t), &second, sizeof(second));
}

// bits[4 * i + j] = random_block(seed, stream, first_block + i, draw)[j].
inline void draw_blocks(uint64_t seed, uint32_t stream, uint64_t first_block,
                        uint32_t (&bits)[kBitsDrawn], uint32_t draw = 0) {
  constexpr int kRounds = 10;
  const CounterWords multiplier0 = CounterWords{} + 0xD2511F53;
  const CounterWords multiplier1 = CounterWords{} + 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int r = 0; r < Pack<uint64_t>::kRegisters; ++r) {
    const CounterWords block = lane_numbers<uint64_t, kLanes>().part[r] + first_block;
    CounterWords c0 = block, c1 = block >> 32, c2 = CounterWords{} + stream;
    CounterWords c3 = CounterWords{} + draw;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
      const CounterWords p0 = multiply_low(c0, multiplier0), p1 = multiply_low(c2, multiplier1);
      c0 = (p1 >> 32) ^ c1 ^ k0;
      c2 = (p0 >> 32) ^ c3 ^ k1;
      c1 = p1;
      c3 = p0;
    }
    store_blocks(std::make_index_sequence<kBlocksInRegister>{}, (c0 & 0xffffffff) | (c1 << 32),
                 (c2 & 0xffffffff) | (c3 << 32), bits + 4 * kBlocksInRegister * r);
  }
}

}  // namespace memwall
