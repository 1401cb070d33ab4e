// The 16-bit floating-point types as they lie in memory, and their conversion from and to FP32:
// widening is exact, narrowing rounds once, to nearest even; beyond the largest finite value lies
// infinity; what is not a number stays so. The bits are those of F16C's instructions.
#pragma once

#include <bit>
#include <cstdint>

#include "runtime/base/host_device.h"

namespace memwall {

// The functions below take a float and uint32_t, or GCC vectors of them, lane by lane. The 16 bits
// of a number are the lower half of its uint32_t.

// IEEE 754 binary16: sign, 5 bits of exponent with bias 15, 10 bits of fraction.
template <class Float, class Bits>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Float half_to_float(const Bits& half) {
  const Bits sign = (half & 0x8000u) << 16, magnitude = (half & 0x7fffu) << 13;
  // The other bias: exact, for subnormal numbers too.
  const Bits finite = std::bit_cast<Bits>(std::bit_cast<Float>(magnitude) * 0x1p112f);
  const Bits special = magnitude | 0x7f800000u;
  Bits bits = magnitude < 0x0f800000u ? finite : special;
  bits = magnitude > 0x0f800000u ? (special | 0x00400000u) : bits;  // quiet
  return std::bit_cast<Float>(bits | sign);
}

template <class Bits, class Float>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Bits float_to_half(const Float& x) {
  const Bits whole = std::bit_cast<Bits>(x);
  const Bits sign = (whole >> 16) & 0x8000u, magnitude = whole & 0x7fffffffu;
  const Bits even = (magnitude >> 13) & 1u;
  const Bits normal = (magnitude + 0xfffu + even - (112u << 23)) >> 13;
  // Beside 0.5 a float has the spacing of subnormal halves, 2^-24.
  const Float shifted = std::bit_cast<Float>(magnitude) + 0.5f;
  const Bits subnormal = std::bit_cast<Bits>(shifted) - 0x3f000000u;
  const Bits infinity = Bits{} + 0x7c00u, nan = ((magnitude >> 13) & 0x3ffu) | 0x7e00u;
  Bits half = magnitude < 0x38800000u ? subnormal : normal;  // 2^-14
  half = magnitude < 0x477ff000u ? half : infinity;          // 65520
  half = magnitude > 0x7f800000u ? nan : half;
  return half | sign;
}

// The upper half of a float.
template <class Float, class Bits>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Float bfloat16_to_float(const Bits& bits) {
  return std::bit_cast<Float>(bits << 16);
}

template <class Bits, class Float>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Bits float_to_bfloat16(const Float& x) {
  const Bits whole = std::bit_cast<Bits>(x), even = (whole >> 16) & 1u;
  const Bits rounded = whole + 0x7fffu + even, nan = whole | 0x00400000u;
  return ((whole & 0x7fffffffu) > 0x7f800000u ? nan : rounded) >> 16;
}

// An element of a kF16 tensor.
struct Half {
  uint16_t bits;
  Half() = default;
  MEMWALL_HOST_DEVICE explicit Half(float x)
      : bits(static_cast<uint16_t>(float_to_half<uint32_t>(x))) {}
  MEMWALL_HOST_DEVICE explicit operator float() const {
    return half_to_float<float>(uint32_t{bits});
  }
};

// An element of a kBF16 tensor.
struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  MEMWALL_HOST_DEVICE explicit BFloat16(float x)
      : bits(static_cast<uint16_t>(float_to_bfloat16<uint32_t>(x))) {}
  MEMWALL_HOST_DEVICE explicit operator float() const {
    return bfloat16_to_float<float>(uint32_t{bits});
  }
};

}  // namespace memwall
