// Registers of the CPU: GCC vectors, and what the instruction set compiled for offers. Its twin for
// the GPU, where a register is a thread's scalar, is cuda/registers.h.
//
// 16-bit floating-point numbers from and to vectors of FP32: the machine's instructions where there
// are any, else the same bits by base/half.h.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "runtime/base/half.h"
#include "runtime/base/host_device.h"

namespace memwall {

// Elements that a team hands out at once.
inline constexpr int kLanes = 16;

// Bytes of the widest vector register of the instruction set compiled for.
inline constexpr int kRegisterBytes = __BIGGEST_ALIGNMENT__ >= 64   ? 64
                                      : __BIGGEST_ALIGNMENT__ >= 32 ? 32
                                                                    : 16;
#ifdef __FMA__
inline constexpr bool kHasFma = true;
#else
inline constexpr bool kHasFma = false;
#endif
#ifdef __F16C__
inline constexpr bool kHasF16c = true;
#else
inline constexpr bool kHasF16c = false;
#endif
// Loads and stores of some lanes of 16 bits.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
inline constexpr bool kHasMaskedHalves = kRegisterBytes == 64;
#else
inline constexpr bool kHasMaskedHalves = false;
#endif

template <class T, int N>
struct VectorType {
  typedef T Type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using Vector = typename VectorType<T, N>::Type;

template <class To, class From>
[[gnu::always_inline]] inline To bit_pattern(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

// How many lanes of T a register holds.
template <class T>
inline constexpr int kLanesOfRegister = kRegisterBytes / static_cast<int>(sizeof(T));

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

// x * y + z with one rounding.
template <class T, class Register>
[[gnu::always_inline]] inline Register multiply_add(Register x, Register y, Register z) {
  if constexpr (kHasFma && kRegisterBytes == 64 && std::is_same_v<T, float>) {
    return _mm512_fmadd_ps(x, y, z);
  } else if constexpr (kHasFma && kRegisterBytes == 64) {
    return _mm512_fmadd_pd(x, y, z);
  } else if constexpr (kHasFma && kRegisterBytes == 32 && std::is_same_v<T, float>) {
    return _mm256_fmadd_ps(x, y, z);
  } else if constexpr (kHasFma && kRegisterBytes == 32) {
    return _mm256_fmadd_pd(x, y, z);
  } else {
    for (int i = 0; i < kLanesOfRegister<T>; ++i) x[i] = std::fma(x[i], y[i], z[i]);
    return x;
  }
}

template <class T, class Register>
[[gnu::always_inline]] inline Register square_root(Register x) {
  if constexpr (kRegisterBytes == 64 && std::is_same_v<T, float>) {
    return _mm512_maskz_sqrt_ps(0xffff, x);
  } else if constexpr (kRegisterBytes == 64) {
    return _mm512_maskz_sqrt_pd(0xff, x);
  } else {
    for (int i = 0; i < kLanesOfRegister<T>; ++i) x[i] = std::sqrt(x[i]);
    return x;
  }
}

}  // namespace memwall
