// exp, tanh, the logistic function and Philox against libm, long double and Random123.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "runtime/base/hash.h"
#include "runtime/base/rng.h"
#include "runtime/kernels/random.h"
#include "runtime/kernels/team.h"
#include "runtime/kernels/vector_math.h"

namespace memwall {
namespace {

// The largest error of f in units in the last place of the result, over a grid on [low, high].
template <class T, class F, class G>
double largest_error_ulp(double low, double high, const F& f, const G& exact) {
  constexpr int kPoints = 1 << 20;
  double largest = 0.0;
  for (int i = 0; i < kPoints; i += kLanes) {
    T x[kLanes], y[kLanes];
    for (int j = 0; j < kLanes; ++j) {
      x[j] = static_cast<T>(low + (high - low) * (i + j + 0.37) / kPoints);
    }
    store(y, f(load<T, kLanes>(x)));
    for (int j = 0; j < kLanes; ++j) {
      const long double want = exact(static_cast<long double>(x[j]));
      const T rounded = static_cast<T>(std::abs(want));
      const long double ulp = std::nextafter(rounded, std::numeric_limits<T>::infinity()) - rounded;
      largest = std::max(largest, static_cast<double>(std::abs(y[j] - want) / ulp));
    }
  }
  return largest;
}

template <class T>
class VectorMath : public testing::Test {};
using FloatTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(VectorMath, FloatTypes);

TYPED_TEST(VectorMath, ExpIsAccurateToAUnitInTheLastPlace) {
  using T = TypeParam;
  const auto f = [](const Pack<T>& x) { return exp(x); };
  const auto exact = [](long double x) { return std::exp(x); };
  const double low = ExpTables<T>::kSmallest, high = ExpTables<T>::kLargest;
  EXPECT_LT((largest_error_ulp<T>(low, high, f, exact)), 1.3);
  EXPECT_LT((largest_error_ulp<T>(-1.0, 1.0, f, exact)), 1.3);
}

TYPED_TEST(VectorMath, TanhIsAccurateToAFewUnitsInTheLastPlace) {
  using T = TypeParam;
  const auto f = [](const Pack<T>& x) { return tanh(x); };
  const auto exact = [](long double x) { return std::tanh(x); };
  EXPECT_LT((largest_error_ulp<T>(-25.0, 25.0, f, exact)), 3.0);
  EXPECT_LT((largest_error_ulp<T>(-0.01, 0.01, f, exact)), 3.0);
}

TEST(VectorMathOfDoubles, LogIsAccurateToTwoUnitsInTheLastPlace) {
  const auto f = [](const Pack<double>& x) { return log(x); };
  const auto exact = [](long double x) { return std::log(x); };
  EXPECT_LT((largest_error_ulp<double>(0.5, 2.0, f, exact)), 2.1);
  EXPECT_LT((largest_error_ulp<double>(0.999, 1.001, f, exact)), 2.1);
  EXPECT_LT((largest_error_ulp<double>(1e-308, 1e-300, f, exact)), 1.0);
  EXPECT_LT((largest_error_ulp<double>(2.0, 1e308, f, exact)), 1.0);
}

TEST(VectorMathOfDoubles, Powers) {
  for (const double a : {0.25, 0.35, 0.5, 1.0}) {
    const auto f = [a](const Pack<double>& x) { return power(x, a); };
    const auto exact = [a](long double x) { return std::pow(x, static_cast<long double>(a)); };
    EXPECT_LT((largest_error_ulp<double>(0.0, 10.0, f, exact)), 10.0);
    EXPECT_LT((largest_error_ulp<double>(0.0, 1e-38, f, exact)), 100.0);
    EXPECT_LT((largest_error_ulp<double>(0.0, 1e38, f, exact)), 100.0);
    const double infinity = std::numeric_limits<double>::infinity();
    const double inputs[kLanes] = {0, infinity, std::numeric_limits<double>::quiet_NaN(), 1};
    double y[kLanes];
    store(y, f(load<double, kLanes>(inputs)));
    EXPECT_EQ(y[0], 0);
    EXPECT_EQ(y[1], infinity);
    EXPECT_TRUE(std::isnan(y[2]));
    EXPECT_EQ(y[3], 1);
  }
}

TYPED_TEST(VectorMath, EdgesOfTheRange) {
  using T = TypeParam;
  const T infinity = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T inputs[kLanes] = {0, -T{0}, infinity, -infinity, nan, 1000, -1000, 1};
  T y[kLanes];
  store(y, exp(load<T, kLanes>(inputs)));
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[2], infinity);
  EXPECT_EQ(y[3], 0);
  EXPECT_TRUE(std::isnan(y[4]));
  EXPECT_EQ(y[5], infinity);
  EXPECT_EQ(y[6], 0);
  store(y, tanh(load<T, kLanes>(inputs)));
  EXPECT_EQ(y[0], 0);
  EXPECT_TRUE(std::signbit(y[1]));
  EXPECT_EQ(y[2], 1);
  EXPECT_EQ(y[3], -1);
  EXPECT_TRUE(std::isnan(y[4]));
  store(y, logistic(load<T, kLanes>(inputs)));
  EXPECT_EQ(y[0], T{0.5});
  EXPECT_EQ(y[2], 1);
  EXPECT_EQ(y[3], 0);
  EXPECT_TRUE(std::isnan(y[4]));
}

// Lane 5 of a register, the first lane of a tail: the same bits.
TYPED_TEST(VectorMath, LaneDoesNotMatter) {
  using T = TypeParam;
  for (int i = 0; i < 1000; ++i) {
    T x[kLanes] = {}, y[kLanes], tail[1];
    x[i % kLanes] = static_cast<T>(0.05 * i - 20);
    store(y, exp(load<T, kLanes>(x)));
    store_first(tail, exp(load_first<T, kLanes>(x + i % kLanes, 1)), 1);
    EXPECT_EQ(tail[0], y[i % kLanes]);
  }
}

// The order that team.h states, written out.
TYPED_TEST(VectorMath, SumsInTheStatedOrder) {
  using T = TypeParam;
  for (int64_t count : {1, 15, 16, 17, 63, 64, 65, 100, 128, 777}) {
    std::vector<T> x(static_cast<size_t>(count));
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<T>(to_unit_interval(random_bits(1, 2, i)) - 0.3);
    }
    T lanes[4][kLanes] = {};
    for (int64_t i = 0; i < count; ++i) {
      lanes[i / kLanes % 4][i % kLanes] += x[static_cast<size_t>(i)];
    }
    for (int i = 0; i < kLanes; ++i) {
      lanes[0][i] = (lanes[0][i] + lanes[1][i]) + (lanes[2][i] + lanes[3][i]);
    }
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[0][i] += lanes[0][i + half];
    }
    const Input<T> view{x.data()};
    EXPECT_EQ(CpuTeam::sum(count, [&](auto at) { return view(at); }), lanes[0][0]) << count;
    EXPECT_EQ(CpuTeam::max(count, [&](auto at) { return view(at); }),
              *std::max_element(x.begin(), x.end()));
  }
}

// The same on AVX-512, AVX2 and baseline builds, with tails of all lengths: hashes of the bits.
template <class T>
uint64_t hash_of_math() {
  std::vector<T> x(20000), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<T>(40.0 * to_unit_interval(random_bits(3, 4, i)) - 20.0);
  }
  std::vector<T> results;
  const Input<T> in{x.data()};
  const Output<T> out{y.data()};
  for (int64_t begin = 0, count = 1; begin + count < 20000; begin += count, ++count) {
    const auto from = in.from(begin);
    const auto to = out.from(begin);
    CpuTeam::each(0, count, [&](auto at) {
      to.store(at, exp(from(at)) + tanh(from(at)) * logistic(from(at)) + sqrt(abs(from(at))));
    });
    const Input<T> done{to.data};
    results.push_back(
        CpuTeam::sum(count, [&](auto at) { return fma(from(at), from(at), done(at)); }));
  }
  return hash_bytes(y.data(), y.size() * sizeof(T),
                    hash_bytes(results.data(), results.size() * sizeof(T)));
}

TEST(Builds, GiveTheSameBits) {
  EXPECT_EQ(hash_of_math<float>(), 4978481927337218666u);
  EXPECT_EQ(hash_of_math<double>(), 2535958572495084089u);
}

TEST(Random, SixteenBlocksAreTheBlocksOfRandom123) {
  for (uint64_t first :
       {uint64_t{0}, uint64_t{12345}, (uint64_t{1} << 32) - 5, (uint64_t{7} << 32) + 1}) {
    uint32_t bits[kBitsDrawn];
    draw_blocks(0x123456789abcdef, 42, first, bits);
    for (uint64_t i = 0; i < kBlocksDrawn; ++i) {
      const RandomBlock block = random_block(0x123456789abcdef, 42, first + i);
      for (size_t j = 0; j < 4; ++j) EXPECT_EQ(bits[4 * i + j], block[j]) << first << " + " << i;
    }
  }
}

}  // namespace
}  // namespace memwall
