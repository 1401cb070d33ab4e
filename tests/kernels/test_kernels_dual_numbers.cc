// The arithmetic of dual numbers: each operation on scalars, on packs, or both, against its value
// and its partial derivatives.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "runtime/kernels/dual.h"

namespace memwall::test {
namespace {

using Scalars = Dual<double>;
using Packs = Dual<Pack<double>>;

constexpr double kX = 0.7, kY = -1.3;   // the point
constexpr double kDx = 0.3, kDy = 2.1;  // the direction

struct Operation {
  std::string name;
  double value, by_x, by_y;
  std::function<Scalars(Scalars x, Scalars y)> scalars;
  std::function<Packs(Packs x, Packs y)> packs;
};

template <class F>
Operation both(const std::string& name, double value, double by_x, double by_y, const F& f) {
  return {name, value, by_x, by_y, f, f};
}

void expect_dual(const std::string& what, double v, double d, const Operation& o) {
  const double tangent = o.by_x * kDx + o.by_y * kDy;
  EXPECT_NEAR(v, o.value, 4e-16 * std::abs(o.value)) << what;
  EXPECT_NEAR(d, tangent, 1e-15 * (std::abs(o.by_x * kDx) + std::abs(o.by_y * kDy))) << what;
}

void expect_derivatives(const Operation& o) {
  if (o.scalars) {
    const Scalars f = o.scalars({kX, kDx}, {kY, kDy});
    expect_dual(o.name + " of scalars", f.v, f.d, o);
  }
  if (o.packs) {
    const Packs f = o.packs(Scalars{kX, kDx}, Scalars{kY, kDy});
    for (int i = 0; i < kLanes; ++i) {
      const auto lane = [i](const Pack<double>& p) {
        return p.part[i / p.kRegisterLanes][i % p.kRegisterLanes];
      };
      expect_dual(o.name + " of packs", lane(f.v), lane(f.d), o);
    }
  }
}

TEST(DualNumbers, Arithmetic) {
  const std::vector<Operation> operations = {
      both("x + y", kX + kY, 1, 1, [](auto x, auto y) { return x + y; }),
      both("x - y", kX - kY, 1, -1, [](auto x, auto y) { return x - y; }),
      both("x y", kX * kY, kY, kX, [](auto x, auto y) { return x * y; }),
      both("x / y", kX / kY, 1 / kY, -kX / (kY * kY), [](auto x, auto y) { return x / y; }),
      both("-x", -kX, -1, 0, [](auto x, auto) { return -x; }),
      both("x + 3", kX + 3, 1, 0, [](auto x, auto) { return x + 3.0; }),
      both("3 + x", kX + 3, 1, 0, [](auto x, auto) { return 3.0 + x; }),
      both("x - 3", kX - 3, 1, 0, [](auto x, auto) { return x - 3.0; }),
      both("3 - x", 3 - kX, -1, 0, [](auto x, auto) { return 3.0 - x; }),
      both("x 3", kX * 3, 3, 0, [](auto x, auto) { return x * 3.0; }),
      both("3 x", kX * 3, 3, 0, [](auto x, auto) { return 3.0 * x; }),
      both("x / 3", kX / 3, 1.0 / 3, 0, [](auto x, auto) { return x / 3.0; }),
      both("3 / x", 3 / kX, -3 / (kX * kX), 0, [](auto x, auto) { return 3.0 / x; }),
  };
  for (const Operation& o : operations) expect_derivatives(o);
}

TEST(DualNumbers, Functions) {
  const double root = std::sqrt(kX), power = std::exp(kY), s = 1 / (1 + std::exp(-kY));
  const auto less = [](Packs x, Packs y) { return where_less(x, y, x, y); };
  const std::vector<Operation> operations = {
      both("fma", kX * kY + kY, kY, kX + 1, [](auto x, auto y) { return fma(x, y, y); }),
      both("sqrt", root, 0.5 / root, 0, [](auto x, auto) { return sqrt(x); }),
      both("exp", power, 0, power, [](auto, auto y) { return exp(y); }),
      {"log", std::log(kX), 1 / kX, 0, [](Scalars x, Scalars) { return log(x); }, nullptr},
      {"logistic", s, 0, s * (1 - s), nullptr, [](Packs, Packs y) { return logistic(y); }},
      {"the smaller", kY, 0, 1, nullptr, less},
      {"the larger", kX, 1, 0, nullptr, [&](Packs x, Packs y) { return where_less(x, y, y, x); }},
  };
  for (const Operation& o : operations) expect_derivatives(o);
}

}  // namespace
}  // namespace memwall::test
