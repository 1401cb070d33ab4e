// Parity with PyTorch: logits, loss, every gradient and ten AdamW steps of a small GPT-2 with given
// weights. The golden values are made by tests/golden/make_gpt2_golden.py.
#include <gtest/gtest.h>

#include "comm/self/self_communicator.h"
#include "tests/support/golden_run.h"

namespace memwall::test {
namespace {

const std::string kFolder = std::string(MEMWALL_SOURCE_DIR) + "/tests/golden/gpt2_tiny";
constexpr int64_t kBatch = 3, kTime = 16;

// The settings of the golden run.
CompileSettings golden_settings() {
  CompileSettings s;
  s.optimizer = AdamWSettings{0.9, 0.95, 1e-8, 0.1};
  s.grad_clip = 1.0;
  return s;
}

// The thirds of c_attn.bias that are key biases have a gradient that is zero but for rounding.
bool is_key_bias(const Segment& s, int64_t i) {
  return s.name.ends_with("c_attn.bias") && i >= s.count / 3 && i < 2 * s.count / 3;
}

class Parity : public testing::TestWithParam<DType> {
 protected:
  double tolerance() const { return GetParam() == DType::kF64 ? 1e-10 : 1e-5; }
  HuggingFaceFolder weights_{kFolder};
  SafetensorsFile golden_{kFolder + "/golden.safetensors"};
  SelfCommunicator comm_;
};

TEST_P(Parity, LossAndEveryGradient) {
  TinyRun run(golden_spec(weights_.config(), GetParam(), kBatch, kTime), golden_settings(), comm_);
  load(run, weights_);
  run.set_scalars(0, 1e-3);
  feed(run, golden_, 0);
  run.executor().run(run.plan().program("last_micro"));
  const double loss = run.executor().slot(SlotKind::kLossSum).as<double>()[0] / run.global_tokens();
  EXPECT_NEAR(loss, read_all(golden_, "loss")[0], tolerance());

  double whole = 0.0;
  for (const Unit& unit : run.plan().units) {
    for (const Segment& s : unit.segments) {
      const double n = norm_of(read_all(golden_, "grad." + s.name));
      whole += n * n;
    }
  }
  whole = std::sqrt(whole);
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor g = run.executor().slot(SlotKind::kGradient, static_cast<int64_t>(u));
    for (const Segment& s : run.plan().units[u].segments) {
      const std::vector<double> expected = read_all(golden_, "grad." + s.name);
      std::vector<double> difference;
      for (int64_t i = 0; i < s.count; ++i) {
        difference.push_back(element(g, s.offset + i) - expected[static_cast<size_t>(i)]);
      }
      const double scale = std::max(norm_of(expected), 1e-3 * whole);
      EXPECT_LT(norm_of(difference) / scale, tolerance()) << s.name;
    }
  }
}

TEST_P(Parity, LossOfEachSequence) {
  TinyRun run(golden_spec(weights_.config(), GetParam(), kBatch, kTime), golden_settings(), comm_);
  load(run, weights_);
  feed(run, golden_, 0);
  run.executor().run(run.plan().program("evaluate"));
  const std::vector<double> token_loss = read_all(golden_, "token_loss");
  for (int64_t b = 0; b < kBatch; ++b) {
    double expected = 0.0;
    for (int64_t t = 0; t < kTime; ++t) expected += token_loss[static_cast<size_t>(b * kTime + t)];
    EXPECT_NEAR(run.executor().slot(SlotKind::kSampleLoss).as<double>()[b], expected,
                tolerance() * expected);
  }
}

TEST_P(Parity, Logits) {
  GptSpec spec = golden_spec(weights_.config(), GetParam(), kBatch, kTime);
  spec.batch = 1;
  CompileSettings settings = golden_settings();
  settings.train = settings.evaluate = false;
  settings.next_token = true;
  TinyRun run(spec, settings, comm_);
  load(run, weights_);
  const std::vector<double> tokens = read_all(golden_, "tokens"),
                            logits = read_all(golden_, "logits");
  double worst = 0.0;
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t t = 0; t < kTime; ++t) {
      for (int64_t i = 0; i < kTime; ++i) {
        run.executor().slot(SlotKind::kTokens).as<int32_t>()[i] =
            i <= t ? static_cast<int32_t>(tokens[static_cast<size_t>(b * kTime + i)]) : 0;
      }
      run.executor().slot(SlotKind::kPosition).as<int32_t>()[0] = static_cast<int32_t>(t);
      run.executor().run(run.plan().program("next_token"));
      const Tensor row = run.executor().slot(SlotKind::kLogits);
      for (int64_t v = 0; v < spec.vocabulary; ++v) {
        const double expected = logits[static_cast<size_t>((b * kTime + t) * spec.vocabulary + v)];
        worst = std::max(worst, std::abs(element(row, v) - expected));
      }
    }
  }
  EXPECT_LT(worst, tolerance());
}

TEST_P(Parity, TenAdamWSteps) {
  TinyRun run(golden_spec(weights_.config(), GetParam(), kBatch, kTime), golden_settings(), comm_);
  load(run, weights_);
  const std::vector<double> losses = read_all(golden_, "step_loss");
  const std::vector<double> norms = read_all(golden_, "step_grad_norm");
  for (int64_t step = 0; step < 10; ++step) {
    run.set_scalars(step, 1e-3);
    feed(run, golden_, step);
    run.executor().run(run.plan().program("last_micro"));
    run.executor().run(run.plan().program("update"));
    const auto k = static_cast<size_t>(step);
    EXPECT_NEAR(run.scalar(Scalar::kLoss), losses[k], tolerance() * losses[k]) << step;
    EXPECT_NEAR(run.scalar(Scalar::kGradNorm), norms[k], 3 * tolerance() * norms[k]) << step;
  }
  // The golden updates are rounded to FP32 in their file. One AdamW step moves a weight by 1e-3.
  const double close = GetParam() == DType::kF64 ? 1e-8 : 1e-5;
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor p = run.executor().slot(SlotKind::kParameter, static_cast<int64_t>(u));
    for (const Segment& s : run.plan().units[u].segments) {
      const std::vector<double> before = read_all(weights_, s.name);
      const std::vector<double> update = read_all(golden_, "update." + s.name);
      double worst = 0.0;
      for (int64_t i = 0; i < s.count; ++i) {
        if (is_key_bias(s, i)) continue;
        const double expected = before[static_cast<size_t>(i)] + update[static_cast<size_t>(i)];
        worst = std::max(worst, std::abs(element(p, s.offset + i) - expected));
      }
      EXPECT_LT(worst, close) << s.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, Parity, testing::Values(DType::kF32, DType::kF64),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

}  // namespace
}  // namespace memwall::test
