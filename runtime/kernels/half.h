// Vectors of 16-bit floating-point numbers from and to vectors of FP32: the machine's instructions
// where there are any, else the same bits by base/half.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "runtime/base/half.h"
#include "runtime/kernels/vector.h"

namespace memwall {

// Types that are stored only: values are computed with as float.
template <class S>
inline constexpr bool kIsNarrow = std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>;

template <class S, int N>
[[gnu::always_inline]] inline Vector<float, N> widen(Vector<uint16_t, N> bits) {
  if constexpr (std::is_same_v<S, Half> && kRegisterBytes == 64 && N == 16) {
    return _mm512_maskz_cvtph_ps(0xffff, bit_pattern<__m256i>(bits));
  } else if constexpr (std::is_same_v<S, Half> && kHasF16c && N == 8) {
    return _mm256_cvtph_ps(bit_pattern<__m128i>(bits));
  } else {
    const auto wide = __builtin_convertvector(bits, Vector<uint32_t, N>);
    if constexpr (std::is_same_v<S, Half>) return half_to_float<Vector<float, N>>(wide);
    if constexpr (std::is_same_v<S, BFloat16>) return bfloat16_to_float<Vector<float, N>>(wide);
  }
}

template <class S, int N>
[[gnu::always_inline]] inline Vector<uint16_t, N> narrow(Vector<float, N> x) {
  using Bits = Vector<uint32_t, N>;
  if constexpr (std::is_same_v<S, Half> && kRegisterBytes == 64 && N == 16) {
    return bit_pattern<Vector<uint16_t, N>>(
        _mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT));
  } else if constexpr (std::is_same_v<S, Half> && kHasF16c && N == 8) {
    return bit_pattern<Vector<uint16_t, N>>(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  } else if constexpr (std::is_same_v<S, Half>) {
    return __builtin_convertvector(float_to_half<Bits>(x), Vector<uint16_t, N>);
  } else {
    return __builtin_convertvector(float_to_bfloat16<Bits>(x), Vector<uint16_t, N>);
  }
}

}  // namespace memwall
