// exp, tanh, the logistic function, and, in double, log and powers on packs: range reduction and
// polynomials in explicit fma, so that the bits depend on the argument alone. Errors:
// tests/kernels/test_kernels_vector_math.cc.
#pragma once

#include <array>
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
  static constexpr std::array<float, 6> kPolynomial = {1.9875691500e-4f, 1.3981999507e-3f,
                                                       8.3334519073e-3f, 4.1665795894e-2f,
                                                       1.6666665459e-1f, 5.0000001201e-1f};
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
  static constexpr std::array<double, 12> kPolynomial = {
      1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
      1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};
};

// x = n ln(2) + r: n in the low mantissa bits of `shifted`, and expm1(r).
template <class T, int N>
struct ReducedExp {
  Pack<T, N> shifted, expm1;
};

template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline ReducedExp<T, N> reduce_exp(const Pack<T, N>& x) {
  using P = Pack<T, N>;
  using Tables = ExpTables<T>;
  const P shifted = fma(x, P(Tables::kLog2E), P(Tables::kShift));
  const P n = shifted - Tables::kShift;
  const P r = fma(n, P(-Tables::kLn2Low), fma(n, P(-Tables::kLn2High), x));
  constexpr auto kPolynomial = Tables::kPolynomial;  // a local one: nvcc has no other on the GPU
  P sum = kPolynomial[0];
  for (size_t i = 1; i < kPolynomial.size(); ++i) sum = fma(sum, r, P(kPolynomial[i]));
  return {shifted, fma(r * r, sum, r)};
}

// x * 2^n, n as in ReducedExp; exact where the result is a normal number.
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> scale_by_power(
    const Pack<T, N>& x, const Pack<T, N>& shifted) {
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
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> exp(const Pack<T, N>& x) {
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
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> logistic(const Pack<T, N>& x) {
  return T{1} / (T{1} + exp(-x));
}

template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> abs(const Pack<T, N>& x) {
  using Register = typename Pack<T, N>::Register;
  using Bits = Vector<BitsOf<T>, Pack<T, N>::kRegisterLanes>;
  constexpr BitsOf<T> kMagnitude = std::numeric_limits<BitsOf<T>>::max() >> 1;
  return Pack<T, N>::zip(
      [](Register v) { return bit_pattern<Register>(bit_pattern<Bits>(v) & kMagnitude); }, x);
}

// sign(x) e / (e + 2) with e = expm1(2 |x|).
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<T, N> tanh(const Pack<T, N>& x) {
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

// x = 2^n m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(f), f = (m - 1) / (m + 1). For normal
// x > 0.
template <int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<double, N> log(const Pack<double, N>& x) {
  using P = Pack<double, N>;
  using Register = typename P::Register;
  using Bits = Vector<uint64_t, P::kRegisterLanes>;
  constexpr int kMantissaBits = ExpTables<double>::kMantissaBits;
  constexpr uint64_t kRootHalf = 0x3FE6A09E667F3BCD, kBias = 2048;  // keeps n + kBias positive
  const auto shifted_exponent = [](Register v) {
    return (bit_pattern<Bits>(v) - kRootHalf + (kBias << kMantissaBits)) >> kMantissaBits;
  };
  const P n = P::zip(
      [&](Register v) -> Register {  // as a mantissa of 2^52, exactly
        const Bits number = shifted_exponent(v) | bit_pattern<uint64_t>(0x1p52);
        return bit_pattern<Register>(number) - (0x1p52 + static_cast<double>(kBias));
      },
      x);
  const P m = P::zip(
      [&](Register v) -> Register {
        const Bits power = (shifted_exponent(v) - kBias) << kMantissaBits;
        return bit_pattern<Register>(bit_pattern<Bits>(v) - power);
      },
      x);
  const P f = (m - 1.0) / (m + 1.0), square = f * f;
  // artanh(f) = f + f^3 Q(f^2), Q = 1/3 + f^2/5 + ...: the remainder is below 1e-17 f.
  P sum = 1.0 / 23;
  for (int k = 21; k >= 3; k -= 2) sum = fma(sum, square, P(1.0 / k));
  const P small = fma(n, P(ExpTables<double>::kLn2Low), 2.0 * f * square * sum);
  return fma(n, P(ExpTables<double>::kLn2High), 2.0 * f + small);
}

// x^a for x >= 0 and 0 < a <= 1, to about |a ln x| units in the last place.
template <int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Pack<double, N> power(const Pack<double, N>& x,
                                                                        double a) {
  using P = Pack<double, N>;
  const P y = exp(log(x) * a);
  const P finite = where_less(x, P(std::numeric_limits<double>::infinity()), y, x);
  return where_equal(x, P(0.0), P(0.0), finite);
}

}  // namespace memwall
