// GCC vectors, and what the instruction set compiled for offers.
#pragma once

#include <cstring>

namespace memwall {

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

}  // namespace memwall
