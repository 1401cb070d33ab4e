// Lanczos's method on dense matrices whose eigenvalues are known: made from them by reflections, or
// by a formula.
#include "runtime/train/lanczos.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <numbers>
#include <random>
#include <thread>
#include <vector>

#include "runtime/base/error.h"

namespace memwall::test {
namespace {

using Numbers = std::vector<double>;

Numbers random_numbers(size_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  Numbers out(count);
  for (double& x : out) x = normal(engine);
  return out;
}

// Row-major, symmetric, with these eigenvalues: a diagonal between reflections I - 2 u u'.
Numbers with_eigenvalues(const Numbers& eigenvalues) {
  const size_t n = eigenvalues.size();
  Numbers a(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) a[i * n + i] = eigenvalues[i];
  for (uint64_t reflection = 0; reflection < 3; ++reflection) {
    const Numbers u = random_numbers(n, 100 + reflection);
    double squares = 0.0;
    for (double x : u) squares += x * x;
    const auto reflect = [&](size_t first, size_t step) {
      double dot = 0.0;
      for (size_t i = 0; i < n; ++i) dot += a[first + i * step] * u[i];
      for (size_t i = 0; i < n; ++i) a[first + i * step] -= 2.0 * dot / squares * u[i];
    };
    for (size_t row = 0; row < n; ++row) reflect(row * n, 1);
    for (size_t column = 0; column < n; ++column) reflect(column, n);
  }
  return a;
}

SymmetricProduct product_of(const Numbers& a) {
  return [&a](std::span<const double> v, std::span<double> hv) {
    for (size_t i = 0; i < v.size(); ++i) {
      hv[i] = 0.0;
      for (size_t j = 0; j < v.size(); ++j) hv[i] += a[i * v.size() + j] * v[j];
    }
  };
}

void fill(int64_t number, std::span<double> v) {
  const Numbers drawn = random_numbers(v.size(), static_cast<uint64_t>(number) + 7);
  std::copy(drawn.begin(), drawn.end(), v.begin());
}

LanczosSettings settings_for(size_t n, int64_t iterations, int64_t largest, int64_t smallest,
                             double tolerance = 1e-10) {
  const auto size = static_cast<int64_t>(n);
  return {size, size, iterations, largest, smallest, tolerance};
}

LanczosResult lanczos_of(const Numbers& a, const LanczosSettings& settings) {
  return lanczos(
      product_of(a), [](std::span<double>) {}, fill, settings);
}

double true_residual(const Numbers& a, const RitzPair& pair) {
  Numbers hy(pair.vector.size());
  product_of(a)(pair.vector, hy);
  double squares = 0.0;
  for (size_t i = 0; i < hy.size(); ++i) {
    squares += std::pow(hy[i] - pair.value * pair.vector[i], 2);
  }
  return std::sqrt(squares);
}

double length_of(const Numbers& v) {
  double squares = 0.0;
  for (double x : v) squares += x * x;
  return std::sqrt(squares);
}

// Values as expected, outermost first, with vectors that belong to them.
void expect_pairs(const Numbers& a, const std::vector<RitzPair>& pairs, const Numbers& expected,
                  double close) {
  ASSERT_EQ(pairs.size(), expected.size());
  for (size_t i = 0; i < pairs.size(); ++i) {
    EXPECT_NEAR(pairs[i].value, expected[i], close) << i;
    EXPECT_TRUE(pairs[i].converged) << i;
    EXPECT_NEAR(length_of(pairs[i].vector), 1.0, 1e-12) << i;
    EXPECT_LT(true_residual(a, pairs[i]), pairs[i].residual + 1e-12) << i;
  }
}

// A bulk between -1 and 1 and ends of its own, like a trained network's Hessian.
Numbers spiked(size_t n) {
  Numbers out(n);
  for (size_t i = 0; i < n; ++i) out[i] = std::cos(static_cast<double>(i));
  out[0] = 40.0;
  out[1] = 25.0;
  out[2] = 9.0;
  out[3] = -6.0;
  out[4] = -3.0;
  return out;
}

TEST(Lanczos, FindsBothEndsInFewProducts) {
  const Numbers a = with_eigenvalues(spiked(200));
  const LanczosResult r = lanczos_of(a, settings_for(200, 100, 3, 2));
  EXPECT_EQ(r.end, LanczosEnd::kConverged);
  EXPECT_LT(r.iterations, 40);
  EXPECT_EQ(static_cast<int64_t>(r.ritz_values.size()), r.iterations);
  EXPECT_TRUE(std::is_sorted(r.ritz_values.begin(), r.ritz_values.end()));
  expect_pairs(a, r.largest, {40.0, 25.0, 9.0}, 1e-11);
  expect_pairs(a, r.smallest, {-6.0, -3.0}, 1e-11);
  EXPECT_LT(r.asymmetry, 1e-13);
}

// What keeps ghosts away: without it copies of the ends appear long before 120 products.
TEST(Lanczos, KeepsOneOfEachWhenItGoesOn) {
  Numbers eigenvalues = spiked(120);
  const Numbers a = with_eigenvalues(eigenvalues);
  const LanczosResult r = lanczos_of(a, settings_for(120, 1000, 60, 60, 0.0));
  EXPECT_EQ(r.end, LanczosEnd::kComplete);
  EXPECT_EQ(r.iterations, 120);
  std::sort(eigenvalues.begin(), eigenvalues.end());
  ASSERT_EQ(r.ritz_values.size(), eigenvalues.size());
  for (size_t i = 0; i < eigenvalues.size(); ++i) {
    EXPECT_NEAR(r.ritz_values[i], eigenvalues[i], 1e-11) << i;
  }
}

// The second difference: 2 - 2 cos(k pi / (n + 1)), closest to each other at the ends.
TEST(Lanczos, FindsTheEndsOfALaplacian) {
  constexpr size_t kSize = 80;
  Numbers a(kSize * kSize, 0.0);
  for (size_t i = 0; i < kSize; ++i) {
    a[i * kSize + i] = 2.0;
    if (i > 0) a[i * kSize + i - 1] = a[(i - 1) * kSize + i] = -1.0;
  }
  const auto eigenvalue = [](size_t k) {
    return 2.0 - 2.0 * std::cos(static_cast<double>(k) * std::numbers::pi / (kSize + 1.0));
  };
  const LanczosResult r = lanczos_of(a, settings_for(kSize, 1000, 3, 3));
  expect_pairs(a, r.largest, {eigenvalue(80), eigenvalue(79), eigenvalue(78)}, 1e-9);
  expect_pairs(a, r.smallest, {eigenvalue(1), eigenvalue(2), eigenvalue(3)}, 1e-9);
}

TEST(Lanczos, TellsClusteredEigenvaluesApart) {
  Numbers eigenvalues = spiked(150);
  eigenvalues[0] = 10.0;
  eigenvalues[1] = 10.0 - 1e-5;
  eigenvalues[2] = 10.0 - 2e-5;
  const Numbers a = with_eigenvalues(eigenvalues);
  const LanczosResult r = lanczos_of(a, settings_for(150, 150, 3, 1, 1e-9));
  EXPECT_EQ(r.end, LanczosEnd::kConverged);
  expect_pairs(a, r.largest, {10.0, 10.0 - 1e-5, 10.0 - 2e-5}, 1e-9);
  expect_pairs(a, r.smallest, {-6.0}, 1e-9);
}

// One start vector sees one vector of each eigenvalue: the others need another start.
TEST(Lanczos, FindsTheCopiesOfMultipleEigenvalues) {
  const Numbers a = with_eigenvalues({5, 5, 5, 1, 1, 0, 0, 0, 0, -3, -3, -3.5});
  const LanczosResult r = lanczos_of(a, settings_for(12, 100, 4, 3));
  EXPECT_EQ(r.end, LanczosEnd::kComplete);
  EXPECT_EQ(r.iterations, 12);
  expect_pairs(a, r.largest, {5.0, 5.0, 5.0, 1.0}, 1e-12);
  expect_pairs(a, r.smallest, {-3.5, -3.0, -3.0}, 1e-12);
  double dot = 0.0;
  for (size_t i = 0; i < 12; ++i) dot += r.largest[0].vector[i] * r.largest[1].vector[i];
  EXPECT_NEAR(dot, 0.0, 1e-12);
  // The five products with the first start see five eigenvalues exactly, and one 5.
  const LanczosResult few = lanczos_of(a, settings_for(12, 100, 2, 1));
  expect_pairs(a, few.largest, {5.0, 5.0}, 1e-12);
  expect_pairs(a, few.smallest, {-3.5}, 1e-12);
}

TEST(Lanczos, GoesOnAfterAnInvariantSubspaceToItsLimit) {
  Numbers eigenvalues(60, 0.0);  // of rank 3
  eigenvalues[7] = 4.0;
  eigenvalues[9] = 4.0;
  eigenvalues[11] = -2.0;
  const Numbers a = with_eigenvalues(eigenvalues);
  const LanczosResult r = lanczos_of(a, settings_for(60, 20, 3, 1));
  EXPECT_EQ(r.end, LanczosEnd::kConverged);
  EXPECT_EQ(r.iterations, 20);
  expect_pairs(a, r.largest, {4.0, 4.0, 0.0}, 1e-12);
  expect_pairs(a, r.smallest, {-2.0}, 1e-12);
}

TEST(Lanczos, AllNegativeAndOneElement) {
  const Numbers a = with_eigenvalues({-1.0, -2.0, -4.0, -8.0, -16.0});
  const LanczosResult r = lanczos_of(a, settings_for(5, 5, 2, 2));
  expect_pairs(a, r.largest, {-1.0, -2.0}, 1e-13);
  expect_pairs(a, r.smallest, {-16.0, -8.0}, 1e-13);
  // More is wanted at the ends than there is in all.
  const LanczosResult one = lanczos_of({-3.0}, settings_for(1, 10, 2, 2));
  EXPECT_EQ(one.end, LanczosEnd::kComplete);
  expect_pairs({-3.0}, one.largest, {-3.0}, 1e-15);
  expect_pairs({-3.0}, one.smallest, {-3.0}, 1e-15);
}

TEST(Lanczos, SaysThatTheLimitCameFirst) {
  Numbers eigenvalues(300);
  for (size_t i = 0; i < 300; ++i) eigenvalues[i] = std::sqrt(static_cast<double>(i));
  const Numbers a = with_eigenvalues(eigenvalues);
  const LanczosResult r = lanczos_of(a, settings_for(300, 12, 2, 2, 1e-8));
  EXPECT_EQ(r.end, LanczosEnd::kLimit);
  EXPECT_EQ(r.iterations, 12);
  for (const auto* side : {&r.largest, &r.smallest}) {
    for (const RitzPair& pair : *side) {
      EXPECT_FALSE(pair.converged);
      EXPECT_NEAR(true_residual(a, pair), pair.residual, 1e-10);
      // An eigenvalue lies within the residual.
      double nearest = 1e300;
      for (double e : eigenvalues) nearest = std::min(nearest, std::abs(e - pair.value));
      EXPECT_LE(nearest, pair.residual);
    }
  }
}

TEST(Lanczos, MeasuresAsymmetry) {
  Numbers a = with_eigenvalues(spiked(50));
  a[3 * 50 + 17] += 1e-3;  // one element of 2500
  const LanczosResult r = lanczos_of(a, settings_for(50, 30, 1, 1));
  EXPECT_GT(r.asymmetry, 1e-7);
  EXPECT_LT(r.asymmetry, 1e-3 / 39.0);
}

TEST(Lanczos, RefusesAProductThatIsNotFinite) {
  Numbers a = with_eigenvalues(spiked(20));
  a[5] = std::nan("");
  try {
    lanczos_of(a, settings_for(20, 10, 1, 1));
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("Lanczos, product 1: the product with the Hessian"),
              std::string::npos)
        << error.what();
  }
}

// Threads in place of ranks. Rank r of 3 holds elements [r, r + 1) * 80 of 200, the last 40
// padding.
class FakeRanks {
 public:
  static constexpr size_t kRanks = 3, kShard = 80, kSize = 200;

  std::vector<LanczosResult> run(const Numbers& a, int64_t iterations) {
    std::vector<LanczosResult> results(kRanks);
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < kRanks; ++rank) {
      threads.emplace_back([&, rank] {
        const LanczosSettings settings{kSize, kShard, iterations, 3, 2, 1e-10};
        results[rank] = lanczos(
            [&](std::span<const double> v, std::span<double> hv) { multiply(a, rank, v, hv); },
            [&](std::span<double> values) { sum(rank, values); },
            [&](int64_t number, std::span<double> v) {
              Numbers whole(kSize);
              fill(number, whole);
              for (size_t i = 0; i < kShard; ++i)
                v[i] = is_real(rank, i) ? whole[at(rank, i)] : 0.0;
            },
            settings);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }
  static size_t at(size_t rank, size_t i) { return rank * kShard + i; }
  static bool is_real(size_t rank, size_t i) { return at(rank, i) < kSize; }

 private:
  void multiply(const Numbers& a, size_t rank, std::span<const double> v, std::span<double> hv) {
    for (size_t i = 0; i < kShard; ++i) {
      if (is_real(rank, i)) gathered_[at(rank, i)] = v[i];
    }
    all_.arrive_and_wait();
    for (size_t i = 0; i < kShard; ++i) {
      hv[i] = 0.0;
      for (size_t j = 0; is_real(rank, i) && j < kSize; ++j) {
        hv[i] += a[at(rank, i) * kSize + j] * gathered_[j];
      }
    }
    all_.arrive_and_wait();
  }
  void sum(size_t rank, std::span<double> values) {
    sent_[rank].assign(values.begin(), values.end());
    all_.arrive_and_wait();
    std::fill(values.begin(), values.end(), 0.0);
    for (const Numbers& of : sent_) {
      EXPECT_EQ(of.size(), values.size());
      for (size_t i = 0; i < values.size(); ++i) values[i] += of[i];
    }
    all_.arrive_and_wait();
  }

  std::barrier<> all_{kRanks};
  Numbers gathered_ = Numbers(kSize);
  std::vector<Numbers> sent_ = std::vector<Numbers>(kRanks);
};

TEST(Lanczos, ShardsGiveWhatTheWholeGives) {
  const Numbers a = with_eigenvalues(spiked(FakeRanks::kSize));
  const LanczosResult whole = lanczos_of(a, settings_for(FakeRanks::kSize, 100, 3, 2));
  const std::vector<LanczosResult> ranks = FakeRanks().run(a, 100);
  for (size_t rank = 0; rank < FakeRanks::kRanks; ++rank) {
    const LanczosResult& r = ranks[rank];
    EXPECT_EQ(r.end, LanczosEnd::kConverged);
    EXPECT_EQ(r.iterations, whole.iterations);
    EXPECT_EQ(r.ritz_values, ranks[0].ritz_values);
    ASSERT_EQ(r.largest.size(), 3u);
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_NEAR(r.largest[k].value, whole.largest[k].value, 1e-11);
      ASSERT_EQ(r.largest[k].vector.size(), FakeRanks::kShard);
      // The sign of an eigenvector is not determined: compare with the sign of element 0.
      const double sign =
          ranks[0].largest[k].vector[0] * whole.largest[k].vector[0] > 0.0 ? 1.0 : -1.0;
      for (size_t i = 0; i < FakeRanks::kShard; ++i) {
        const double expected =
            FakeRanks::is_real(rank, i) ? whole.largest[k].vector[FakeRanks::at(rank, i)] : 0.0;
        EXPECT_NEAR(sign * r.largest[k].vector[i], expected, 1e-8);
      }
    }
  }
}

TEST(Lanczos, StatesItsBytes) {
  // 10 basis vectors, the one in work, 3 results: 14 vectors of 100 doubles.
  EXPECT_EQ(lanczos_bytes({1000, 100, 10, 2, 1, 1e-6}), 14 * 100 * 8);
  EXPECT_EQ(lanczos_bytes({5, 100, 10, 2, 1, 1e-6}), 9 * 100 * 8);
}

}  // namespace
}  // namespace memwall::test
