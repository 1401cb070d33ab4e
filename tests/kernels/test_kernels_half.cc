// Conversion from and to 16-bit floating-point numbers: every half, every point between two halves
// where rounding changes, random floats; by packs, their tails, vectors of half a register and
// single elements, against arithmetic in double precision.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/base/rng.h"
#include "runtime/kernels/team.h"

namespace memwall {
namespace {

constexpr uint32_t kCodes = 1u << 16;
// Lanes of a register of floats, and of the vectors that become a register of doubles.
constexpr int kWhole = Pack<float>::kRegisterLanes, kHalved = kWhole / 2;

template <class S>
struct Format;
template <>
struct Format<Half> {
  static constexpr int kFractionBits = 10, kSmallestExponent = -14, kLargestExponent = 15;
};
template <>
struct Format<BFloat16> {
  static constexpr int kFractionBits = 7, kSmallestExponent = -126, kLargestExponent = 127;
};

// What the 16 bits stand for.
template <class S>
double value_of(uint32_t code) {
  using F = Format<S>;
  const int fraction_codes = 1 << F::kFractionBits;
  const int fraction = static_cast<int>(code) % fraction_codes;
  const int exponent = static_cast<int>(code & 0x7fff) / fraction_codes;
  const double sign = code & 0x8000 ? -1.0 : 1.0;
  if (exponent == 0) return sign * std::ldexp(fraction, F::kSmallestExponent - F::kFractionBits);
  if (exponent > F::kLargestExponent - F::kSmallestExponent + 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  return sign * std::ldexp(fraction_codes + fraction,
                           exponent - 1 + F::kSmallestExponent - F::kFractionBits);
}

// x rounded to the format, to nearest even.
template <class S>
double nearest(double x) {
  using F = Format<S>;
  if (x == 0.0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), F::kSmallestExponent);
  const double unit = std::ldexp(1.0, exponent - F::kFractionBits);
  const double rounded = std::nearbyint(x / unit) * unit;
  const double beyond = std::ldexp(1.0, F::kLargestExponent + 1);
  if (std::abs(rounded) < beyond) return rounded;
  return std::copysign(std::numeric_limits<double>::infinity(), x);
}

bool same_number(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && std::signbit(a) == std::signbit(b);
}

// Every way to convert gives the bits of the pack's.
template <class S>
void widen_in_all_ways(const S (&from)[kLanes], float (&to)[kLanes]) {
  store(to, load<float, kLanes>(from));
  Vector<uint16_t, kHalved> part;
  std::memcpy(&part, from, sizeof(part));
  const auto wide = widen<S, kHalved>(part);
  EXPECT_EQ(std::memcmp(&wide, to, sizeof(wide)), 0);
  float tail[kLanes];
  store(tail, load_first<float, kLanes>(from, 5));
  EXPECT_EQ(std::memcmp(tail, to, 5 * sizeof(float)), 0);
  EXPECT_EQ(std::bit_cast<uint32_t>(tail[5]), 0u);
  double doubles[kLanes];
  store(doubles, load<double, kLanes>(from));
  for (int i = 0; i < kLanes; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(static_cast<float>(from[i])), std::bit_cast<uint32_t>(to[i]));
    EXPECT_TRUE(same_number(doubles[i], to[i]));
  }
}

template <class S>
void narrow_in_all_ways(const float (&from)[kLanes], S (&to)[kLanes]) {
  store(to, load<float, kLanes>(from));
  Vector<float, kHalved> part;
  std::memcpy(&part, from, sizeof(part));
  const auto rounded = narrow<S, kHalved>(part);
  EXPECT_EQ(std::memcmp(&rounded, to, sizeof(rounded)), 0);
  S tail[6];
  tail[5].bits = 0x1234;
  store_first(tail, load<float, kLanes>(from), 5);
  EXPECT_EQ(std::memcmp(tail, to, 5 * sizeof(S)), 0);
  EXPECT_EQ(tail[5].bits, 0x1234);
  for (int i = 0; i < kLanes; ++i) EXPECT_EQ(S(from[i]).bits, to[i].bits);
}

template <class S>
void expect_nearest(const std::vector<float>& numbers) {
  for (size_t i = 0; i + kLanes <= numbers.size(); i += kLanes) {
    float from[kLanes];
    S to[kLanes];
    std::copy_n(numbers.begin() + static_cast<std::ptrdiff_t>(i), kLanes, from);
    narrow_in_all_ways(from, to);
    for (int j = 0; j < kLanes; ++j) {
      const double want = nearest<S>(static_cast<double>(from[j]));
      ASSERT_TRUE(same_number(value_of<S>(to[j].bits), want)) << std::hexfloat << from[j];
    }
    if (testing::Test::HasFailure()) return;
  }
}

template <class S>
class HalfTypes : public testing::Test {};
using NarrowTypes = testing::Types<Half, BFloat16>;
TYPED_TEST_SUITE(HalfTypes, NarrowTypes);

TYPED_TEST(HalfTypes, WidenEveryCode) {
  using S = TypeParam;
  for (uint32_t code = 0; code < kCodes; code += kLanes) {
    S from[kLanes];
    float to[kLanes];
    for (uint32_t i = 0; i < kLanes; ++i) from[i].bits = static_cast<uint16_t>(code + i);
    widen_in_all_ways(from, to);
    for (uint32_t i = 0; i < kLanes; ++i) {
      ASSERT_TRUE(same_number(to[i], value_of<S>(code + i))) << code + i;
    }
    if (testing::Test::HasFailure()) return;
  }
}

// There and back; what is not a number becomes quiet and keeps its sign and the rest of its bits.
TYPED_TEST(HalfTypes, NarrowWhatWasWidened) {
  using S = TypeParam;
  for (uint32_t code = 0; code < kCodes; ++code) {
    S s;
    s.bits = static_cast<uint16_t>(code);
    const uint32_t quiet = 1u << (Format<S>::kFractionBits - 1);
    const uint32_t want = std::isnan(value_of<S>(code)) ? code | quiet : code;
    ASSERT_EQ(S(static_cast<float>(s)).bits, want);
  }
}

TYPED_TEST(HalfTypes, NarrowWhereRoundingChanges) {
  using S = TypeParam;
  std::vector<float> numbers;
  const float infinity = std::numeric_limits<float>::infinity();
  for (uint32_t code = 0; code + 1 < kCodes; ++code) {
    const double low = value_of<S>(code);
    // Infinity stands where the next number would.
    double high = value_of<S>(code + 1);
    if (std::isinf(high)) {
      high = std::copysign(std::ldexp(1.0, Format<S>::kLargestExponent + 1), high);
    }
    if (!std::isfinite(low) || std::isnan(high)) continue;
    const auto middle = static_cast<float>((low + high) / 2);
    numbers.insert(numbers.end(), {static_cast<float>(low), std::nextafter(middle, -infinity),
                                   middle, std::nextafter(middle, infinity)});
  }
  numbers.insert(numbers.end(), {infinity, -infinity, 0.0f, -0.0f,
                                 std::numeric_limits<float>::max(), -1e38f, 1e-45f, -1e-45f});
  numbers.resize(numbers.size() / kLanes * kLanes + kLanes, 1.0f);
  expect_nearest<S>(numbers);
}

TYPED_TEST(HalfTypes, NarrowRandomBits) {
  using S = TypeParam;
  std::vector<float> numbers(1 << 20);
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = std::bit_cast<float>(random_bits(11, 1, i));
  }
  expect_nearest<S>(numbers);
}

TYPED_TEST(HalfTypes, NarrowWhatIsNotANumber) {
  using S = TypeParam;
  constexpr int kFraction = Format<S>::kFractionBits;
  for (uint32_t i = 0; i < 100000; i += kLanes) {
    float from[kLanes];
    S to[kLanes];
    for (uint32_t j = 0; j < kLanes; ++j) {
      from[j] = std::bit_cast<float>(random_bits(11, 2, i + j) | 0x7f800001u);
    }
    narrow_in_all_ways(from, to);
    for (int j = 0; j < kLanes; ++j) {
      const auto bits = std::bit_cast<uint32_t>(from[j]);
      const uint32_t kept = (bits & 0x007fffffu) >> (23 - kFraction);
      const uint32_t exponent = 0x7fffu >> kFraction << kFraction;
      ASSERT_EQ(to[j].bits, (bits >> 16 & 0x8000u) | exponent | 1u << (kFraction - 1) | kept);
    }
  }
}

// The bit code alone, where the machine has instructions.
TEST(Half, BitCodeIsTheInstruction) {
  using Bits = Vector<uint32_t, kWhole>;
  using Float = Vector<float, kWhole>;
  using Codes = Vector<uint16_t, kWhole>;
  for (uint32_t i = 0; i < (1u << 20); i += kWhole) {
    Bits bits;
    for (uint32_t j = 0; j < kWhole; ++j) bits[j] = random_bits(11, 3, i + j);
    const auto codes = __builtin_convertvector(bits, Codes);
    const auto x = bit_pattern<Float>(bits);
    const auto half = __builtin_convertvector(float_to_half<Bits>(x), Codes);
    const auto instruction = narrow<Half, kWhole>(x);
    ASSERT_EQ(std::memcmp(&half, &instruction, sizeof(half)), 0);
    const auto wide = half_to_float<Float>(Bits(bits & 0xffffu));
    const auto widened = widen<Half, kWhole>(codes);
    ASSERT_EQ(std::memcmp(&wide, &widened, sizeof(wide)), 0);
  }
}

}  // namespace
}  // namespace memwall
