// H z from one pass with the gradient: against differences of gradients, symmetric, the same with
// and without recomputation, and beside an unchanged gradient.
#include <gtest/gtest.h>

#include <functional>

#include "comm/self/self_communicator.h"
#include "runtime/base/rng.h"
#include "runtime/plan/verify.h"
#include "tests/support/poison.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

using Vector = std::vector<double>;  // by unit and element, padding included

struct Case {
  const char* name;
  int64_t time;
  CheckpointPolicy policy;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};
class Dual : public testing::TestWithParam<Case> {};

// z of a draw, by its definition.
Vector signs_of(const Plan& plan, uint64_t seed, uint32_t draw) {
  Vector v;
  for (const Unit& unit : plan.units) {
    Vector buffer(static_cast<size_t>(unit.padded), 0.0);
    for (const Segment& s : unit.segments) {
      for (int64_t e = 0; e < s.count; ++e) {
        const auto block = random_block(seed, s.index, static_cast<uint64_t>(e) / 128, draw);
        const uint32_t bit = block[static_cast<size_t>(e % 128 / 32)] >> (e % 32) & 1;
        buffer[static_cast<size_t>(s.offset + e)] = bit != 0 ? -1.0 : 1.0;
      }
    }
    v.insert(v.end(), buffer.begin(), buffer.end());
  }
  return v;
}

// hessian_signs and hessian_vector of a small GPT.
class Curvature {
 public:
  explicit Curvature(const Case& c, DType dtype = DType::kF64)
      : run_(spec_of(c, dtype), settings_of(c), comm_) {
    // Away from the initialisation's symmetries.
    std::mt19937_64 random(3);
    std::normal_distribution<double> noise(0.0, 0.1);
    each([&](const Tensor& p, int64_t i, double) { set_element(p, i, noise(random)); },
         SlotKind::kParameter);
    run_.set_scalars(0, 0.0);
    run_.scalar(Scalar::kDraw) = 1.0;
    run_.feed(0, 0);
  }

  TinyRun& run() { return run_; }

  Vector gradient() {
    run_.executor().run(run_.plan().program(kHessianSigns));
    return read(SlotKind::kGradient);
  }
  Vector sums() {
    run_.executor().run(run_.plan().program(kHessianSigns));
    return read(SlotKind::kCurvature);
  }
  Vector product(const Vector& v) {
    write(SlotKind::kVector, v);
    run_.executor().run(run_.plan().program(kHessianVector));
    return read(SlotKind::kCurvature);
  }
  void move(const Vector& v, double by) {
    size_t k = 0;
    each(
        [&](const Tensor& p, int64_t i, double) { set_element(p, i, element(p, i) + by * v[k++]); },
        SlotKind::kParameter);
  }
  // H v by the fourth-order central stencil.
  Vector difference(const Vector& v) {
    constexpr double h = 1e-4;
    const auto at = [&](double by) {
      move(v, by);
      Vector g = gradient();
      move(v, -by);
      return g;
    };
    const Vector a = at(h), b = at(-h), c = at(2 * h), d = at(-2 * h);
    Vector out(a.size());
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = (8.0 * (a[i] - b[i]) - (c[i] - d[i])) / (12.0 * h);
    }
    return out;
  }
  // Random, zero in padding.
  Vector direction(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> noise;
    Vector v;
    each([&](const Tensor&, int64_t, double inside) { v.push_back(inside * noise(random)); },
         SlotKind::kParameter);
    return v;
  }
  Vector signs() { return signs_of(run_.plan(), 11, 1); }

 private:
  static GptSpec spec_of(const Case& c, DType dtype) {
    GptSpec spec = tiny_spec(dtype);
    spec.time = c.time;
    spec.context = c.time + 4;
    return spec;
  }
  static CompileSettings settings_of(const Case& c) {
    CompileSettings settings;
    settings.train = settings.evaluate = false;
    settings.curvature = true;
    settings.direction_seed = 11;
    settings.checkpointing = c.policy;
    return settings;
  }
  // f(slot, element, 1 or in padding 0).
  template <class F>
  void each(const F& f, SlotKind kind) {
    for (size_t u = 0; u < run_.plan().units.size(); ++u) {
      const Tensor t = run_.executor().slot(kind, static_cast<int64_t>(u));
      Vector inside(static_cast<size_t>(t.elements()), 0.0);
      for (const Segment& s : run_.plan().units[u].segments) {
        std::fill_n(inside.begin() + s.offset, s.count, 1.0);
      }
      for (int64_t i = 0; i < t.elements(); ++i) f(t, i, inside[static_cast<size_t>(i)]);
    }
  }
  Vector read(SlotKind kind) {
    Vector out;
    each([&](const Tensor& t, int64_t i, double) { out.push_back(element(t, i)); }, kind);
    return out;
  }
  void write(SlotKind kind, const Vector& v) {
    size_t k = 0;
    each([&](const Tensor& t, int64_t i, double) { set_element(t, i, v[k++]); }, kind);
  }

  SelfCommunicator comm_;
  TinyRun run_;
};

double dot(const Vector& a, const Vector& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
double norm(const Vector& a) {
  return std::sqrt(dot(a, a));
}
double distance(const Vector& a, const Vector& b) {
  Vector d = a;
  for (size_t i = 0; i < d.size(); ++i) d[i] -= b[i];
  return norm(d);
}

TEST_P(Dual, ProductEqualsDifferencesOfGradients) {
  Curvature curvature(GetParam());
  const Vector v = curvature.direction(5);
  const Vector product = curvature.product(v), expected = curvature.difference(v);
  EXPECT_GT(norm(expected), 1e-3);
  EXPECT_LT(distance(product, expected), 1e-7 * norm(expected));
}

TEST_P(Dual, ProductIsSymmetric) {
  Curvature curvature(GetParam());
  const Vector u = curvature.direction(7), v = curvature.direction(8);
  const double uhv = dot(u, curvature.product(v)), vhu = dot(v, curvature.product(u));
  EXPECT_NEAR(uhv, vhu, 1e-12 * norm(u) * norm(curvature.product(v)));
  EXPECT_NE(uhv, 0.0);
}

TEST_P(Dual, SignsAreAVector) {
  Curvature curvature(GetParam());
  const Vector z = curvature.signs();
  Vector expected = curvature.product(z);
  for (size_t i = 0; i < z.size(); ++i) expected[i] *= z[i];
  const Vector sums = curvature.sums();
  EXPECT_LT(distance(sums, expected), 1e-13 * norm(expected));
  EXPECT_GT(norm(expected), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, Dual,
                         testing::Values(Case{"plain", 16, {}},
                                         Case{"recomputed", 16, {Checkpointing::kBlock, {}}},
                                         Case{"chunks", 512, {}}),
                         [](const auto& instance) { return std::string(instance.param.name); });

// What a training step leaves: parameters' gradients and curvature, bit by bit.
struct Left {
  std::vector<double> gradients, curvature;
  bool operator==(const Left&) const = default;
};

Left left_by(TinyRun& run, bool curvature) {
  Left left;
  PoisoningObserver poison(run.executor());
  run.executor().set_observer(&poison);
  run.accumulate(curvature ? 0 : 1);
  run.executor().set_observer(nullptr);
  for (const Slot& slot : run.plan().slots) {
    const Tensor t = run.executor().slot(slot);
    for (int64_t i = 0; i < t.elements(); ++i) {
      if (slot.kind == SlotKind::kGradient) left.gradients.push_back(element(t, i));
      if (slot.kind == SlotKind::kCurvature) left.curvature.push_back(element(t, i));
    }
  }
  return left;
}

TEST(DualStep, LeavesTheGradientAsItIsAndDoesNotDependOnCheckpointing) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t micro_steps : {1, 3}) {
      GptSpec spec = tiny_spec(dtype);
      spec.dropout = 0.1;
      CompileSettings settings;
      settings.evaluate = false;
      settings.micro_steps = micro_steps;
      settings.optimizer = AdaHessianSettings{.update_every = 2};
      SelfCommunicator comm;
      TinyRun run(spec, settings, comm);
      const Left measured = left_by(run, true);
      CompileSettings adamw = settings;
      adamw.optimizer = AdamWSettings{};
      TinyRun plain(spec, adamw, comm);
      const Left expected = left_by(plain, true);
      EXPECT_EQ(measured.gradients, expected.gradients) << name_of(dtype) << " " << micro_steps;
      double sum = 0.0;
      for (double h : measured.curvature) sum += std::abs(h);
      EXPECT_GT(sum, 0.0);
      EXPECT_TRUE(std::isfinite(sum));
      for (const CheckpointPolicy& policy :
           {CheckpointPolicy{Checkpointing::kBlock, {}},
            CheckpointPolicy{Checkpointing::kSelective, {"*/attn/attention", "*/attn/residual"}}}) {
        settings.checkpointing = policy;
        TinyRun recomputed(spec, settings, comm);
        EXPECT_EQ(left_by(recomputed, true), measured) << name_of(dtype) << " " << micro_steps;
      }
    }
  }
}

// With dropout, and two probes: z (H z) of both, in one sum.
TEST(DualStep, SumsOverProbesEqualDifferencesOfGradients) {
  GptSpec spec = tiny_spec(DType::kF64);
  spec.dropout = 0.2;
  CompileSettings settings;
  settings.evaluate = false;
  settings.direction_seed = 11;
  settings.optimizer = AdaHessianSettings{.probes = 2};
  SelfCommunicator comm;
  TinyRun run(spec, settings, comm);
  const auto slots = [&](SlotKind kind) {
    Vector out;
    for (size_t u = 0; u < run.plan().units.size(); ++u) {
      const Tensor t = run.executor().slot(kind, static_cast<int64_t>(u));
      for (int64_t i = 0; i < t.elements(); ++i) out.push_back(element(t, i));
    }
    return out;
  };
  const auto move = [&](const Vector& v, double by) {
    size_t k = 0;
    for (size_t u = 0; u < run.plan().units.size(); ++u) {
      const Tensor t = run.executor().slot(SlotKind::kParameter, static_cast<int64_t>(u));
      for (int64_t i = 0; i < t.elements(); ++i) {
        set_element(t, i, element(t, i) + by * v[k++]);
      }
    }
  };
  const auto gradient = [&](const Vector& v, double by) {
    move(v, by);
    run.accumulate(0);
    move(v, -by);
    return slots(SlotKind::kGradient);
  };
  run.accumulate(0);
  const Vector sums = slots(SlotKind::kCurvature);
  Vector expected(sums.size(), 0.0);
  for (uint32_t draw : {1u, 2u}) {
    const Vector z = signs_of(run.plan(), 11, draw);
    constexpr double h = 3e-5;
    const Vector a = gradient(z, h), b = gradient(z, -h), c = gradient(z, 2 * h),
                 d = gradient(z, -2 * h);
    for (size_t i = 0; i < sums.size(); ++i) {
      expected[i] += z[i] * (8.0 * (a[i] - b[i]) - (c[i] - d[i])) / (12.0 * h);
    }
  }
  EXPECT_GT(norm(expected), 1e-3);
  EXPECT_LT(distance(sums, expected), 1e-7 * norm(expected));
}

// What the plan's verifier must not let pass: tangents forgotten, exchanged in kind, or not added
// to.
TEST(DualPlan, MutantsAreRefused) {
  CompileSettings settings;
  settings.evaluate = false;
  settings.optimizer = AdaHessianSettings{};
  const Plan plan = compile(Gpt2(tiny_spec(DType::kF16)), settings);
  ASSERT_NO_THROW(verify_plan(plan));
  int tried = 0;
  const auto refused = [&](const Plan& mutant, const Step& step, const char* what) {
    ++tried;
    EXPECT_THROW(verify_plan(mutant), InputError) << what << " " << step.name;
  };
  for (size_t p = 0; p < plan.programs.size(); ++p) {
    for (size_t i = 0; i < plan.programs[p].steps.size(); ++i) {
      const Step& step = plan.programs[p].steps[i];
      const auto mutate = [&](const char* what, const std::function<void(Step&)>& change) {
        Plan mutant = plan;
        change(mutant.programs[p].steps[i]);
        refused(mutant, step, what);
      };
      if (!step.dual) continue;
      mutate("plain", [](Step& s) { s.dual = false; });
      mutate("without a tangent", [](Step& s) { s.inputs.pop_back(); });
      mutate("without a result's tangent", [](Step& s) { s.outputs.pop_back(); });
      const size_t half = step.outputs.size() / 2;
      if (step.addends.size() > half && step.addends[half].bytes > 0) {
        mutate("tangent added to nothing", [&](Step& s) { s.addends[half] = {}; });
        mutate("tangent added to another part", [&](Step& s) { s.addends[half].start += 64; });
      }
    }
  }
  EXPECT_GT(tried, 40);
}

}  // namespace
}  // namespace memwall::test
