// exp, tanh and the logistic function on packs: range reduction and polynomials in explicit fma,
// so that the bits depend on the argument alone. Errors: tests/kernels/test_vector_math.cc.
#pragma once

#include <iterator>
#include <limits>

#include "runtime/kernels/pack.h"

namespace memwall {

template <class T>
struct ExpTables;

// expm1(r) = r + r^2 P(r) for |r| <= ln(2) / 2. `kShift` rounds to an integer when added.
template <>
struct ExpTables<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr float kShift = 0x1.8p23f, kLog2E = 0x1.715476p+0f;
  static constexpr float kLn2High = 0x1.62e43p-1f, kLn2Low = -0x1.05c610p-29f;
  static constexpr float kLargest = 88.72283f;    // exp is finite up to here
  static constexpr float kSmallest = -87.33654f;  // and normal from here on
  static constexpr float kTanhOne = 10.0f;        // tanh rounds to 1 from here on
  // P, from the highest power down: Cephes, expf.c (Moshier).
  static constexpr float kPolynomial[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                          4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};

template <>
struct ExpTables<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr double kShift = 0x1.8p52, kLog2E = 0x1.71547652b82fep+0;
  static constexpr double kLn2High = 0x1.62e42fefa39efp-1, kLn2Low = 0x1.abc9e3b39803fp-56;
  static constexpr double kLargest = 709.782712893383;
  static constexpr double kSmallest = -708.396418532264;
  static constexpr double kTanhOne = 20.0;
  // Taylor, 1/13! to 1/2!: the remainder is below 4e-18.
  static constexpr double kPolynomial[] = {
      1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
      1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};
};

// x = n ln(2) + r: n in the low mantissa bits of `shifted`, and expm1(r).
template <class T, int N>
struct ReducedExp {
  Pack<T, N> shifted, expm1;
};

template <class T, int N>
[[gnu::always_inline]] inline ReducedExp<T, N> reduce_exp(const Pack<T, N>& x) {
  using P = Pack<T, N>;
  using Tables = ExpTables<T>;
  const P shifted = fma(x, P(Tables::kLog2E), P(Tables::kShift));
  const P n = shifted - Tables::kShift;
  const P r = fma(n, P(-Tables::kLn2Low), fma(n, P(-Tables::kLn2High), x));
  P sum = Tables::kPolynomial[0];
  for (size_t i = 1; i < std::size(Tables::kPolynomial); ++i) {
    sum = fma(sum, r, P(Tables::kPolynomial[i]));
  }
  return {shifted, fma(r * r, sum, r)};
}

// x * 2^n, n as in ReducedExp; exact where the result is a normal number.
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> scale_by_power(const Pack<T, N>& x,
                                                        const Pack<T, N>& shifted) {
  using Register = typename Pack<T, N>::Register;
  using Bits = Vector<BitsOf<T>, Pack<T, N>::kRegisterLanes>;
  return Pack<T, N>::zip(
      [](Register value, Register power) {
        const Bits exponent = bit_pattern<Bits>(power) << ExpTables<T>::kMantissaBits;
        return bit_pattern<Register>(bit_pattern<Bits>(value) + exponent);
      },
      x, shifted);
}

// Infinite above kLargest, zero where the result would be subnormal.
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> exp(const Pack<T, N>& x) {
  using P = Pack<T, N>;
  using Tables = ExpTables<T>;
  const ReducedExp<T, N> e = reduce_exp(x);
  P y = scale_by_power(e.expm1 + T{1}, e.shifted);
  y = where_less(x, P(Tables::kSmallest), P(T{0}), y);
  y = where_less(P(Tables::kLargest), x, P(std::numeric_limits<T>::infinity()), y);
  return where_equal(x, x, y, x);
}

// 1 / (1 + exp(-x)).
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> logistic(const Pack<T, N>& x) {
  return T{1} / (T{1} + exp(-x));
}

template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> abs(const Pack<T, N>& x) {
  return where_less(x, Pack<T, N>(T{0}), -x, x);
}

// sign(x) e / (e + 2) with e = expm1(2 |x|).
template <class T, int N>
[[gnu::always_inline]] inline Pack<T, N> tanh(const Pack<T, N>& x) {
  using P = Pack<T, N>;
  using Tables = ExpTables<T>;
  const P a = abs(x);
  const P clamped = where_less(a, P(Tables::kTanhOne), a, P(Tables::kTanhOne));
  const ReducedExp<T, N> reduced = reduce_exp(clamped + clamped);
  const P power = scale_by_power(P(T{1}), reduced.shifted);
  const P e = fma(power, reduced.expm1, power - T{1});
  const P y = e / (e + T{2});
  const P with_sign = where_less(x, P(T{0}), -y, y);
  // The sign of zero, and what is not a number, pass through.
  return where_less(P(T{0}), a, with_sign, x);
}

}  // namespace memwall
