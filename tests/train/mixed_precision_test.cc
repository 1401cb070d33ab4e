// FP16 with dynamic loss scaling, and BF16 without any, on all ranks together.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/tiny_run.h"
#include "tests/train/train_fixture.h"

namespace memwall::test {
namespace {

using nlohmann::json;

struct HalfLaunch : Launch {
  HalfLaunch(const SharedFolder& folder, int64_t stage)
      : Launch(folder, {.stage = stage, .dtype = DType::kF16}) {
    settings.loss_scale = {.dynamic = true, .initial_scale = 1e30};
  }
};

std::vector<json> my_metrics(const SharedFolder& folder) {
  return json_lines(folder.at("metrics/" + rank_name() + ".jsonl"));
}

std::vector<float> masters(const Launch& launch, Executor& executor) {
  std::vector<float> out;
  for (size_t u = 0; u < launch.plan().units.size(); ++u) {
    const Tensor t = executor.slot(SlotKind::kMaster, static_cast<int64_t>(u));
    out.insert(out.end(), t.as<float>(), t.as<float>() + t.elements());
  }
  return out;
}

TEST(MixedPrecision, AScaleOutOfReachSkipsOnAllRanksAndChangesNothing) {
  for (int64_t stage : {0, 3}) {
    const SharedFolder folder;
    HalfLaunch launch(folder, stage);
    launch.settings.steps = 5;
    std::vector<float> before;
    launch.train([&] { before = masters(launch, launch.executor()); });
    EXPECT_EQ(masters(launch, launch.executor()), before);
    const std::vector<json> lines = my_metrics(folder);
    ASSERT_EQ(lines.size(), 5u);
    double scale = 1e30;
    for (const json& line : lines) {
      EXPECT_EQ(line["skipped"], true);
      EXPECT_EQ(line["loss_scale"], scale);
      EXPECT_NEAR(line["loss"].get<double>(), std::log(256.0), 0.2) << "the loss is not scaled";
      scale /= 2;
    }
  }
}

TEST(MixedPrecision, RecoversFromAScaleOutOfReach) {
  const SharedFolder folder;
  HalfLaunch launch(folder, 3);
  launch.settings.steps = 160;
  launch.train();
  const std::vector<json> lines = my_metrics(folder);
  ASSERT_EQ(lines.size(), 160u);
  size_t skipped = 0;
  while (skipped < lines.size() && lines[skipped]["skipped"] == true) ++skipped;
  // 1e30 is 2^99.7, and FP16 ends at 2^16.
  EXPECT_GT(skipped, 70u);
  EXPECT_LT(skipped, 100u);
  EXPECT_EQ(lines.back()["skipped"], false);
  EXPECT_LT(lines.back()["loss"].get<double>(), lines.front()["loss"].get<double>() - 1.0);
  std::string mine;
  for (const json& line : lines) mine += line["skipped"].dump() + line["loss"].dump();
  for (const std::string& theirs : world().gather_text(mine)) EXPECT_EQ(theirs, mine);
}

TEST(MixedPrecision, StopsWhereTheScaleCannotDrop) {
  const SharedFolder folder;
  HalfLaunch launch(folder, 3);
  launch.settings.loss_scale.min_scale = 2.5e29;
  const std::string message = error_of([&] { launch.train(); }, ExitCode::kFailed);
  EXPECT_NE(message.find("step 3"), std::string::npos) << message;
  EXPECT_NE(message.find("first in "), std::string::npos) << message;
  EXPECT_NE(message.find("head/loss"), std::string::npos) << message;
  EXPECT_NE(message.find("precision.min_loss_scale"), std::string::npos) << message;
  EXPECT_EQ(my_metrics(folder).size(), 3u) << "its last step is on record";
  for (const std::string& theirs : world().gather_text(message)) EXPECT_EQ(theirs, message);
}

// What one rank makes of infinite weights is skipped by all, at scale 1. Masters are as they were,
// and the next step's weights are rounded from them.
TEST(MixedPrecision, Bfloat16SkipsWhatIsNotFinite) {
  for (int64_t stage : {0, 3}) {
    const SharedFolder folder;
    Launch launch(folder, {.stage = stage, .dtype = DType::kBF16});
    launch.settings.steps = 2;
    testing::internal::CaptureStdout();
    launch.train([&] {
      if (world().rank() + 1 < world().size()) return;
      const Tensor embedding = launch.executor().slot(SlotKind::kParameter, 0);
      std::fill_n(embedding.as<uint16_t>(), embedding.elements(), uint16_t{0x7f80});
    });
    const std::string screen = testing::internal::GetCapturedStdout();
    const std::vector<json> lines = my_metrics(folder);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0]["skipped"], true);
    EXPECT_EQ(lines[1]["skipped"], false);
    EXPECT_NEAR(lines[1]["loss"].get<double>(), std::log(256.0), 0.2);
    for (const json& line : lines) EXPECT_EQ(line["loss_scale"], 1.0);
    const bool named =
        screen.find("step 1  skipped: the gradient is not finite, first in ") != std::string::npos;
    EXPECT_EQ(named, world().rank() == 0) << screen;
  }
}

// A loss in so small a unit that its gradients are below FP16's least number: without a scale
// nothing moves, with one it learns as FP32 does. BF16 has FP32's range and needs none.
double last_loss(DType dtype, double scale) {
  constexpr double kUnit = 0x1p-26;
  CompileSettings settings;
  settings.optimizer = AdamWSettings{.epsilon = 1e-30, .weight_decay = 0.0};
  settings.evaluate = false;
  TinyRun run(tiny_spec(dtype), settings, world());
  double loss = 0.0;
  for (int step = 0; step < 40; ++step) {
    run.set_scalars(step, 3e-3);
    run.scalar(Scalar::kSeed) = kUnit * scale / run.global_tokens();
    run.scalar(Scalar::kLossScale) = scale;
    run.feed(0, 0);  // the same samples again and again
    run.executor().run(run.plan().program("last_micro"));
    run.executor().run(run.plan().program("update"));
    loss = run.scalar(Scalar::kLoss);
  }
  return loss;
}

TEST(MixedPrecision, SmallGradientsNeedLossScaling) {
  const double start = std::log(61.0);
  EXPECT_GT(last_loss(DType::kF16, 1.0), start - 0.05) << "stalls";
  const double scaled = last_loss(DType::kF16, 0x1p36), single = last_loss(DType::kF32, 1.0);
  EXPECT_LT(scaled, start - 1.0);
  EXPECT_NEAR(scaled, single, 2e-2);
  EXPECT_NE(scaled, single);
  const double brain = last_loss(DType::kBF16, 1.0);
  EXPECT_NEAR(brain, single, 2e-2);
  EXPECT_NE(brain, single);
}

}  // namespace
}  // namespace memwall::test
