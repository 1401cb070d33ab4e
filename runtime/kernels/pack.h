// Packs: a fixed number of lanes, whatever the registers of the machine.
//
// Every operation is lanewise and correctly rounded (IEEE 754, explicit fma), and reductions
// combine lanes in one fixed tree, so that a result has the same bits on AVX-512, AVX2 and
// baseline builds.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "registers.h"  // of the target: cpu/ or cuda/

namespace memwall {

template <class T, int N = kLanes>
struct Pack {
  static_assert(N % kLanes == 0);
  using Scalar = T;
  static constexpr int kSize = N;
  static constexpr int kRegisterLanes = kLanesOfRegister<T>;
  using Register = Vector<T, kRegisterLanes>;
  static constexpr int kRegisters = N / kRegisterLanes;
  using Indices = std::make_index_sequence<kRegisters>;

  Register part[kRegisters];

  Pack() = default;
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Pack(
      T value) {  // NOLINT: a scalar stands for all lanes
    for (int i = 0; i < kRegisters; ++i) part[i] = Register{} + value;
  }

  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Pack operator+(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x + y; }, a, b);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Pack operator-(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x - y; }, a, b);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Pack operator*(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x * y; }, a, b);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Pack operator/(const Pack& a, const Pack& b) {
    return zip([](Register x, Register y) { return x / y; }, a, b);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Pack operator-(const Pack& a) {
    return zip([](Register x) { return -x; }, a);
  }

  // The registers of f(a.part, b.part, ...).
  template <class F, class... Packs>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE static Pack zip(const F& f, const Packs&... packs) {
    return zip_at(Indices{}, f, packs...);
  }

 private:
  template <size_t... I, class F, class... Packs>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE static Pack zip_at(std::index_sequence<I...>,
                                                                const F& f, const Packs&... packs) {
    Pack out;
    ((out.part[I] = one<I>(f, packs...)), ...);
    return out;
  }
  template <size_t I, class F, class... Packs>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE static Register one(const F& f,
                                                                 const Packs&... packs) {
    return f(packs.part[I]...);
  }
};

// An unsigned integer of the size of T, for bit patterns and masks.
template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// a * b + c with one rounding.
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> fma(const Pack<T, N>& a,
                                                                 const Pack<T, N>& b,
                                                                 const Pack<T, N>& c) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip(
      [](Register x, Register y, Register z) -> Register { return multiply_add<T>(x, y, z); }, a, b,
      c);
}

template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> sqrt(const Pack<T, N>& a) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip([](Register x) -> Register { return square_root<T>(x); }, a);
}

// Where a < b: x, else y (also where either is not a number).
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> where_less(const Pack<T, N>& a,
                                                                        const Pack<T, N>& b,
                                                                        const Pack<T, N>& x,
                                                                        const Pack<T, N>& y) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip(
      [](Register p, Register q, Register v, Register w) { return p < q ? v : w; }, a, b, x, y);
}

template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> where_equal(const Pack<T, N>& a,
                                                                         const Pack<T, N>& b,
                                                                         const Pack<T, N>& x,
                                                                         const Pack<T, N>& y) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip(
      [](Register p, Register q, Register v, Register w) { return p == q ? v : w; }, a, b, x, y);
}

template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> max(const Pack<T, N>& a,
                                                                 const Pack<T, N>& b) {
  return where_less(a, b, b, a);
}

// What orders numbers: of a dual number (dual.h) its value.
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline const Pack<T, N>& value_of(const Pack<T, N>& x) {
  return x;
}

// Of the target (moves.h), where N is kLanes or a multiple of it:
//   lane_numbers<T, N>()                 0, 1, 2, ...
//   load<C, N>(from), store(to, x)       S is what the buffer holds, C what is computed with; no
//                                        alignment is assumed; narrower types are rounded to once
//   load_first<C, N>(from, count)        tails: only the first `count` elements of memory are
//   store_first(to, x, count)            touched; the other lanes are zero
//   combine_lanes(x, combine)            all lanes combined in a fixed tree
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> lane_numbers();

// The first `count` lanes of `x`, `fill` in the others.
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> first_lanes(const Pack<T, N>& x,
                                                                         int count, T fill) {
  return where_less(lane_numbers<T, N>(), Pack<T, N>(static_cast<T>(count)), x, Pack<T, N>(fill));
}

struct Plus {
  template <class V>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE V operator()(const V& a, const V& b) const {
    return a + b;
  }
};
struct Larger {
  template <class V>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE V operator()(const V& a, const V& b) const {
    return a < b ? b : a;
  }
};

template <class T, int N, class Combine>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> combine_packs(const Combine& combine,
                                                                           const Pack<T, N>& x,
                                                                           const Pack<T, N>& y) {
  using Register = typename Pack<T, N>::Register;
  return Pack<T, N>::zip([&](Register p, Register q) -> Register { return combine(p, q); }, x, y);
}

}  // namespace memwall

#include "moves.h"  // of the target: cpu/ or cuda/
