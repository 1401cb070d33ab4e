// Parity of curvature and of ADAHESSIAN with PyTorch's double backward, in FP64. The golden values
// are made by tests/golden/make_adahessian_golden.py.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/self/self_communicator.h"
#include "tests/support/golden_run.h"

namespace memwall::test {
namespace {

const std::string kFolder = std::string(MEMWALL_SOURCE_DIR) + "/tests/golden/adahessian";
constexpr int64_t kBatch = 2, kTime = 16;

nlohmann::json read_json() {
  nlohmann::json out;
  std::ifstream(kFolder + "/golden.json") >> out;
  return out;
}

class AdaHessianParity : public testing::TestWithParam<const char*> {
 protected:
  CompileSettings settings_of(const nlohmann::json& run) const {
    CompileSettings s;
    s.optimizer = AdaHessianSettings{.beta1 = run["beta1"],
                                     .beta2 = run["beta2"],
                                     .epsilon = run["eps"],
                                     .weight_decay = run["weight_decay"],
                                     .hessian_power = run["hessian_power"],
                                     .averaging_block = run["block_size"],
                                     .update_every = run["update_every"],
                                     .probes = run["probes"]};
    s.grad_clip = run["grad_clip"];
    s.direction_seed = json_["seed"];
    s.evaluate = false;
    return s;
  }
  GptSpec spec() const { return golden_spec(weights_.config(), DType::kF64, kBatch, kTime); }

  // As TinyRun::step, on the golden batch.
  void step(TinyRun& run, int64_t number, double rate) {
    run.set_scalars(number, rate);
    feed(run, curvature_, number);
    for (const ProgramRun& r : training_step(1, run.plan().probes, run.measures(number))) {
      run.scalar(Scalar::kDraw) = static_cast<double>(1 + number * run.plan().probes + r.probe);
      run.executor().run(run.plan().program(r.program), r.micro_step);
    }
  }

  HuggingFaceFolder weights_{kFolder};
  SafetensorsFile curvature_{kFolder + "/curvature.safetensors"};
  SafetensorsFile trajectories_{kFolder + "/trajectories.safetensors"};
  nlohmann::json json_ = read_json();
  SelfCommunicator comm_;
};

// Blocks of one element: the curvature buffer holds |H z| as it is, without padding.
TEST_F(AdaHessianParity, GradientAndProduct) {
  nlohmann::json settings = json_["runs"]["block"];
  settings["block_size"] = 1;
  TinyRun run(spec(), settings_of(settings), comm_);
  load(run, weights_);
  step(run, 0, 0.0);
  EXPECT_NEAR(run.scalar(Scalar::kLoss), json_["loss"].get<double>(), 1e-12);
  double trace = 0.0;
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor g = run.executor().slot(SlotKind::kGradient, static_cast<int64_t>(u));
    const Tensor h = run.executor().slot(SlotKind::kCurvature, static_cast<int64_t>(u));
    int64_t entry = 0;
    for (const Segment& s : run.plan().units[u].segments) {
      const std::vector<double> gradient = read_all(curvature_, "gradient." + s.name);
      const std::vector<double> product = read_all(curvature_, "product." + s.name);
      const std::vector<double> z = read_all(curvature_, "z." + s.name);
      double worst_gradient = 0.0, worst_product = 0.0;
      for (int64_t i = 0; i < s.count; ++i, ++entry) {
        const auto k = static_cast<size_t>(i);
        worst_gradient = std::max(worst_gradient, std::abs(element(g, s.offset + i) - gradient[k]));
        worst_product = std::max(worst_product, std::abs(element(h, entry) - std::abs(product[k])));
        trace += z[k] * product[k];
      }
      EXPECT_LT(worst_gradient, 1e-13) << s.name;
      EXPECT_LT(worst_product, 1e-11) << s.name;
    }
  }
  EXPECT_NEAR(run.scalar(Scalar::kTrace), trace, 1e-10);
}

TEST_P(AdaHessianParity, Trajectory) {
  const std::string name = GetParam();
  const nlohmann::json& golden = json_["runs"][name];
  TinyRun run(spec(), settings_of(golden), comm_);
  load(run, weights_);
  const auto losses = golden["loss"].get<std::vector<double>>();
  ASSERT_GE(losses.size(), 3u);
  for (size_t i = 0; i < losses.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    step(run, number, golden["learning_rate"]);
    EXPECT_NEAR(run.scalar(Scalar::kLoss), losses[i], 1e-10) << i;
    EXPECT_NEAR(run.scalar(Scalar::kGradNorm), golden["grad_norm"][i].get<double>(), 1e-10) << i;
    ASSERT_EQ(run.measures(number), !golden["trace"][i].is_null()) << i;
    if (run.measures(number)) {
      EXPECT_NEAR(run.scalar(Scalar::kTrace), golden["trace"][i].get<double>(), 1e-8) << i;
    }
  }
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor p = run.executor().slot(SlotKind::kParameter, static_cast<int64_t>(u));
    for (const Segment& s : run.plan().units[u].segments) {
      const std::vector<double> before = read_all(weights_, s.name);
      const std::vector<double> expected = read_all(trajectories_, name + "." + s.name);
      double worst = 0.0, moved = 0.0;
      for (int64_t i = 0; i < s.count; ++i) {
        const auto k = static_cast<size_t>(i);
        worst = std::max(worst, std::abs(element(p, s.offset + i) - expected[k]));
        moved = std::max(moved, std::abs(expected[k] - before[k]));
      }
      EXPECT_LT(worst, 1e-8) << s.name;
      EXPECT_GT(moved, 1e-3) << s.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, AdaHessianParity,
                         testing::Values("block", "rows", "power", "probes", "every_second",
                                         "clipped"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace memwall::test
