// Packs: a fixed number of lanes, whatever the registers of the machine.
//
// Every operation is lanewise and correctly rounded (IEEE 754, explicit fma), and reductions
// combine lanes in one fixed tree, so that a result has the same bits on AVX-512, AVX2 and
// baseline builds.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "runtime/kernels/half.h"
#include "runtime/kernels/vector.h"

namespace memwall {

inline constexpr int kLanes = 16;

template <class T, int N = kLanes>
struct Pack {
  static_assert(N % kLanes == 0);
  using Scalar = T;
  static constexpr int kSize = N;
  static constexpr int kRegisterLanes = kRegisterBytes / static_cast<int>(sizeof(T));
  using Register = Vector<T, kRegisterLanes>;
  static constexpr int kRegisters = N / kRegisterLanes;
  using Indices = std::make_index_sequence<kRegisters>;

  Register part[kRegisters];

  Pack() = default;
  [[gnu::always_inline]] Pack(T value) {  // NOLINT: a scalar stands for all lanes
    for (int i = 0; i < kRegisters; ++i) part[i] = Register{} + value;
  }

  [[gnu::always_inline]] friend Pack operator+(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x + y; }, a, b);
  }
  [[gnu::always_inline]] friend Pack operator-(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x - y; }, a, b);
  }
  [[gnu::always_inline]] friend Pack operator*(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x * y; }, a, b);
  }
  [[gnu::always_inline]] friend Pack operator/(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x / y; }, a, b);
  }
  [[gnu::always_inline]] friend Pack operator-(const Pack& a) {
    return zip([](Register x) { return -x; }, a);
  }

  // The registers of f(a.part, b.part, ...).
  template <class F, class... Packs>
  [[gnu::always_inline]] static Pack zip(const F& f, const Packs&... packs) {
    return zip_at(Indices{}, f, packs...);
  }

 private:
  template <size_t... I, class F, class... Packs>
  [[gnu::always_inline]] static Pack zip_at(std::index_sequence<I...>, const F& f,
                                            const Packs&... packs) {
    Pack out;
    ((out.part[I] = one<I>(f, packs...)), ...);
    return out;
  }
  template <size_t I, class F, class... Packs>
  [[gnu::always_inline]] static Register one(const F& f, const Packs&... packs) {
    return f(packs.part[I]...);
  }
};

// An unsigned integer of the size of T, for bit patterns and masks.
template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// a * b + c with one rounding.
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> fma(const Pack<T, N>& a, const Pack<T, N>& b,
                                             const Pack<T, N>& c) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip(
      [](Register x, Register y, Register z) -> Register {
        if constexpr (kHasFma && kRegisterBytes == 64 && std::is_same_v<T, float>) {
          return _mm512_fmadd_ps(x, y, z);
        } else if constexpr (kHasFma && kRegisterBytes == 64) {
          return _mm512_fmadd_pd(x, y, z);
        } else if constexpr (kHasFma && kRegisterBytes == 32 && std::is_same_v<T, float>) {
          return _mm256_fmadd_ps(x, y, z);
        } else if constexpr (kHasFma && kRegisterBytes == 32) {
          return _mm256_fmadd_pd(x, y, z);
        } else {
          for (int i = 0; i < Pack<T, N>::kRegisterLanes; ++i) x[i] = std::fma(x[i], y[i], z[i]);
          return x;
        }
      },
      a, b, c);
}

template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> sqrt(const Pack<T, N>& a) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip(
      [](Register x) -> Register {
        if constexpr (kRegisterBytes == 64 && std::is_same_v<T, float>) {
          return _mm512_maskz_sqrt_ps(0xffff, x);
        } else if constexpr (kRegisterBytes == 64) {
          return _mm512_maskz_sqrt_pd(0xff, x);
        } else {
          for (int i = 0; i < Pack<T, N>::kRegisterLanes; ++i) x[i] = std::sqrt(x[i]);
          return x;
        }
      },
      a);
}

// Where a < b: x, else y (also where either is not a number).
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> where_less(const Pack<T, N>& a, const Pack<T, N>& b,
                                                    const Pack<T, N>& x, const Pack<T, N>& y) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip(
      [](Register p, Register q, Register v, Register w) { return p < q ? v : w; }, a, b, x, y);
}

template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> where_equal(const Pack<T, N>& a, const Pack<T, N>& b,
                                                     const Pack<T, N>& x, const Pack<T, N>& y) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip(
      [](Register p, Register q, Register v, Register w) { return p == q ? v : w; }, a, b, x, y);
}

template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> max(const Pack<T, N>& a, const Pack<T, N>& b) {
  return where_less(a, b, b, a);
}

// What orders numbers: of a dual number (dual.h) its value.
template <class T, int N>
[[gnu::always_inline]] inline const Pack<T, N>& value_of(const Pack<T, N>& x) {
  return x;
}

// 0, 1, 2, ...
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> lane_numbers() {
  Pack<T, N> out;
  for (int i = 0; i < N; ++i) {
    out.part[i / out.kRegisterLanes][i % out.kRegisterLanes] = static_cast<T>(i);
  }
  return out;
}

// The first `count` lanes of `x`, `fill` in the others.
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> first_lanes(const Pack<T, N>& x, int count, T fill) {
  return where_less(lane_numbers<T, N>(), Pack<T, N>(static_cast<T>(count)), x, Pack<T, N>(fill));
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

struct Plus {
  template <class V>
  [[gnu::always_inline]] V operator()(const V& a, const V& b) const {
    return a + b;
  }
};
struct Larger {
  template <class V>
  [[gnu::always_inline]] V operator()(const V& a, const V& b) const {
    return a < b ? b : a;
  }
};

template <class T, int N, class Combine>
[[gnu::always_inline]] inline Pack<T, N> combine_packs(const Combine& combine, const Pack<T, N>& x,
                                                       const Pack<T, N>& y) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip([&](Register p, Register q) -> Register { return combine(p, q); }, x, y);
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
