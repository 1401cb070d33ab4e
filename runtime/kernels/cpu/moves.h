// Packs from and to memory, and their lanes, on the CPU. Included by kernels/pack.h; the twin for
// the GPU is cuda/moves.h.
#pragma once

#include <algorithm>
#include <utility>

#include "runtime/kernels/pack.h"

namespace memwall {

// 0, 1, 2, ...
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> lane_numbers() {
  Pack<T, N> out;
  for (int i = 0; i < N; ++i) {
    out.part[i / out.kRegisterLanes][i % out.kRegisterLanes] = static_cast<T>(i);
  }
  return out;
}

// Memory. S is what the buffer holds, C what is computed with; no alignment is assumed.
template <class C, int N, class S>
[[gnu::always_inline]] inline Pack<C, N> load(const S* from) {
  using Register = typename Pack<C, N>::Register;
  constexpr int kCount = Pack<C, N>::kRegisterLanes;
  Pack<C, N> out;
  for (int i = 0; i < out.kRegisters; ++i) {
    if constexpr (std::is_same_v<C, S>) {
      std::memcpy(&out.part[i], from + i * kCount, sizeof(Register));
    } else if constexpr (kIsNarrow<S>) {
      Vector<uint16_t, kCount> piece;
      std::memcpy(&piece, from + i * kCount, sizeof(piece));
      out.part[i] = __builtin_convertvector((widen<S, kCount>(piece)), Register);
    } else {
      Vector<S, kCount> piece;
      std::memcpy(&piece, from + i * kCount, sizeof(piece));
      out.part[i] = __builtin_convertvector(piece, Register);
    }
  }
  return out;
}

// Rounds once, so that a double does not become a 16-bit number by way of a float.
template <class C, int N, class S>
[[gnu::always_inline]] inline void store(S* to, const Pack<C, N>& x) {
  static_assert(!kIsNarrow<S> || std::is_same_v<C, float>);
  constexpr int kCount = Pack<C, N>::kRegisterLanes;
  for (int i = 0; i < x.kRegisters; ++i) {
    if constexpr (std::is_same_v<C, S>) {
      std::memcpy(to + i * kCount, &x.part[i], sizeof(x.part[i]));
    } else if constexpr (kIsNarrow<S>) {
      const auto piece = narrow<S, kCount>(x.part[i]);
      std::memcpy(to + i * kCount, &piece, sizeof(piece));
    } else {
      const auto piece = __builtin_convertvector(x.part[i], Vector<S, kCount>);
      std::memcpy(to + i * kCount, &piece, sizeof(piece));
    }
  }
}

// Tails: only the first `count` elements of memory are touched; the other lanes are zero.
template <class T>
inline constexpr bool kHasMaskedMoves = kRegisterBytes == 64 &&
                                        (std::is_same_v<T, float> || std::is_same_v<T, double>);

// How many of the first `count` lanes of a pack lie in register `r`.
template <class T>
[[gnu::always_inline]] inline int lanes_in_register(int count, int r) {
  const int lanes = Pack<T>::kRegisterLanes;
  return std::clamp(count - r * lanes, 0, lanes);
}

template <class C, int N, class S>
[[gnu::always_inline]] inline Pack<C, N> load_first(const S* from, int count) {
  if constexpr (kHasMaskedHalves && kIsNarrow<S> && std::is_same_v<C, float> && N == kLanes) {
    Pack<C, N> out;
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    const __m256i piece = _mm256_maskz_loadu_epi16(mask, from);
    out.part[0] = widen<S, N>(bit_pattern<Vector<uint16_t, N>>(piece));
    return out;
  } else if constexpr (std::is_same_v<C, S> && kHasMaskedMoves<C>) {
    Pack<C, N> out = C{0};
    for (int r = 0; r < out.kRegisters; ++r) {
      const int lanes = lanes_in_register<C>(count, r);
      if (lanes == 0) break;
      const uint32_t mask = (1u << lanes) - 1;
      if constexpr (std::is_same_v<C, float>) {
        out.part[r] = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from);
      } else {
        out.part[r] =
            _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), from + r * out.kRegisterLanes);
      }
    }
    return out;
  } else {
    S buffer[N];
    std::memset(buffer, 0, sizeof(buffer));
    std::memcpy(buffer, from, static_cast<size_t>(count) * sizeof(S));
    return load<C, N>(buffer);
  }
}

template <class C, int N, class S>
[[gnu::always_inline]] inline void store_first(S* to, const Pack<C, N>& x, int count) {
  if constexpr (kHasMaskedHalves && kIsNarrow<S> && std::is_same_v<C, float> && N == kLanes) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    _mm256_mask_storeu_epi16(to, mask, bit_pattern<__m256i>(narrow<S, N>(x.part[0])));
  } else if constexpr (std::is_same_v<C, S> && kHasMaskedMoves<C>) {
    for (int r = 0; r < x.kRegisters; ++r) {
      const int lanes = lanes_in_register<C>(count, r);
      if (lanes == 0) break;
      const uint32_t mask = (1u << lanes) - 1;
      if constexpr (std::is_same_v<C, float>) {
        _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), x.part[r]);
      } else {
        _mm512_mask_storeu_pd(to + r * x.kRegisterLanes, static_cast<__mmask8>(mask), x.part[r]);
      }
    }
  } else {
    S buffer[N];
    store(buffer, x);
    std::memcpy(to, buffer, static_cast<size_t>(count) * sizeof(S));
  }
}

template <class T, int N, class Combine>
[[gnu::always_inline]] inline T combine_vector(const Vector<T, N>& x, const Combine& combine);

template <class T, int N, class Combine, size_t... I>
[[gnu::always_inline]] inline T combine_halves(std::index_sequence<I...>, const Vector<T, N>& x,
                                               const Combine& combine) {
  const Vector<T, N / 2> low = __builtin_shufflevector(x, x, I...);
  const Vector<T, N / 2> high = __builtin_shufflevector(x, x, (I + N / 2)...);
  return combine_vector<T, N / 2>(combine(low, high), combine);
}

template <class T, int N, class Combine>
[[gnu::always_inline]] inline T combine_vector(const Vector<T, N>& x, const Combine& combine) {
  if constexpr (N == 2) {
    return combine(x[0], x[1]);
  } else {
    return combine_halves<T, N>(std::make_index_sequence<N / 2>{}, x, combine);
  }
}

// All lanes combined: lane i with lane i + n / 2, for n = 16, 8, 4, 2.
template <class T, class Combine>
[[gnu::always_inline]] inline T combine_lanes(Pack<T> x, const Combine& combine) {
  for (int half = Pack<T>::kRegisters / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.part[i] = combine(x.part[i], x.part[i + half]);
  }
  return combine_vector<T, Pack<T>::kRegisterLanes>(x.part[0], combine);
}

}  // namespace memwall
