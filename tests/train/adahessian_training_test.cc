// Training with ADAHESSIAN: going on from a checkpoint, what is planned and measured in steps with
// curvature and between them, and H z that is not finite, on all ranks together.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/train/train_fixture.h"

namespace memwall::test {
namespace {

using nlohmann::json;

struct CurvatureLaunch : Launch {
  CurvatureLaunch(const SharedFolder& folder, TinySettings tiny, int64_t update_every = 2)
      : Launch(folder, with_optimizer(tiny, update_every)) {
    settings.curvature_every = update_every;
    settings.loss_scale.dynamic = tiny.dtype == DType::kF16;
  }
  static TinySettings with_optimizer(TinySettings tiny, int64_t update_every) {
    tiny.optimizer = AdaHessianSettings{.epsilon = 1e-2, .update_every = update_every};
    return tiny;
  }
};

std::vector<json> my_metrics(const SharedFolder& folder) {
  return json_lines(folder.at("metrics/" + rank_name() + ".jsonl"));
}

// Of a line, what has to be the same when the step is run again.
json numbers_of(const json& line) {
  json out = line.contains("hessian") ? line : json::object();
  for (const char* key :
       {"planned", "measured", "step_seconds", "tokens_per_second", "model_flops_utilisation"}) {
    out.erase(key);
  }
  for (const char* key : {"step", "loss", "grad_norm", "lr", "loss_scale", "skipped"}) {
    out[key] = line.at(key);
  }
  return out;
}

// Parameters or masters, and moments, of this rank.
std::string state_of(const Launch& launch, Executor& executor) {
  std::string bytes;
  for (const Slot& slot : launch.plan().slots) {
    if (slot.kind != SlotKind::kParameter && slot.kind != SlotKind::kMaster &&
        slot.kind != SlotKind::kMoment1 && slot.kind != SlotKind::kMoment2) {
      continue;
    }
    bytes.append(reinterpret_cast<const char*>(executor.slot(slot).data),
                 static_cast<size_t>(slot.bytes));
  }
  return bytes;
}

void expect_same_on_all_ranks(const std::vector<json>& lines) {
  std::string mine;
  for (const json& line : lines) mine += numbers_of(line).dump();
  for (const std::string& theirs : world().gather_text(mine)) EXPECT_EQ(theirs, mine);
}

// Six steps in one go, and three, a new process and three more. Curvature is measured in steps 1,
// 3 and 5, so that the fourth is one between; scales grow after two clean steps.
void expect_bitwise_resumption(const TinySettings& tiny) {
  const auto go = [&](const SharedFolder& folder, int64_t steps, bool resume) {
    CurvatureLaunch launch(folder, tiny);
    launch.settings.loss_scale.growth_interval = 2;
    launch.settings.steps = launch.settings.save_every = steps;
    launch.settings.resume = resume;
    EXPECT_EQ(launch.train([&] { EXPECT_FALSE(resume) << "initialised again"; }).step, steps);
  };
  const SharedFolder straight, broken;
  go(straight, 6, false);
  go(broken, 3, false);
  go(broken, 6, true);

  const std::string checkpoint = "/checkpoints/step-00000006";
  const std::string file = checkpoint + "/" + rank_name() + ".bin";
  const std::string expected = contents_of(straight.path() + file);
  EXPECT_FALSE(expected.empty());
  EXPECT_TRUE(contents_of(broken.path() + file) == expected) << "weights or moments differ";
  const StepState a = read_checkpoint_summary(straight.path() + checkpoint).info.state;
  EXPECT_EQ(read_checkpoint_summary(broken.path() + checkpoint).info.state, a);
  const auto lines = my_metrics(straight), again = my_metrics(broken);
  ASSERT_EQ(lines.size(), 6u);
  ASSERT_EQ(again.size(), 6u);
  int64_t applied = 0, measured = 0;
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(numbers_of(lines[i]), numbers_of(again[i]));
    EXPECT_EQ(lines[i].contains("hessian"), applied % 2 == 0) << i;
    if (lines[i]["skipped"] == true) continue;
    ++applied;
    measured += lines[i].contains("hessian") ? 1 : 0;
  }
  EXPECT_EQ(a.applied, applied);
  EXPECT_EQ(a.measured, measured);
  EXPECT_GE(measured, 2);
  if (tiny.dtype == DType::kF16) {
    EXPECT_GT(a.sign_scale.scale, 0x1p-7) << "two clean measurements";
  } else {
    EXPECT_EQ(a.sign_scale.scale, 1.0);
  }
  EXPECT_LT(lines[5]["loss"].get<double>(), lines[0]["loss"].get<double>());
}

TEST(AdaHessianTraining, ResumesBitwise) {
  for (const int64_t stage : {0, 3}) {
    expect_bitwise_resumption({.stage = stage});
  }
  expect_bitwise_resumption({.stage = 2, .micro_steps = 2});
}

TEST(AdaHessianTraining, ResumesBitwiseInSixteenBits) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const int64_t stage : {0, 3}) {
      expect_bitwise_resumption({.stage = stage, .dtype = dtype});
    }
    expect_bitwise_resumption({.stage = 1, .micro_steps = 2, .dtype = dtype});
  }
}

// Both kinds of steps, before and after a resumption; the largest pages so far, and the traffic of
// that step.
TEST(AdaHessianTraining, PlannedIsMeasuredInBothKindsOfSteps) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t stage : {0, 1, 2, 3}) {
      SCOPED_TRACE(testing::Message() << name_of(dtype) << " stage " << stage);
      const SharedFolder folder;
      for (const bool resume : {false, true}) {
        CurvatureLaunch launch(folder, {.stage = stage, .dtype = dtype});
        launch.settings.loss_scale.initial_scale = 1024.0;  // no step is skipped
        launch.settings.resume = resume;
        launch.settings.steps = resume ? 6 : 3;
        launch.settings.save_every = 3;
        launch.train();
      }
      const std::vector<json> lines = my_metrics(folder);
      ASSERT_EQ(lines.size(), 6u);
      for (const json& line : lines) {
        EXPECT_EQ(line["planned"]["traffic"], line["measured"]["traffic"]) << line["step"];
        EXPECT_EQ(line["planned"]["memory"]["peak"], line["measured"]["memory"]["peak"])
            << line["step"];
      }
      const auto sent = [&](size_t i) {
        return lines[i]["measured"]["traffic"]["reduce_scatter"]["payload_bytes"].get<int64_t>();
      };
      const bool several = world().size() > 1;
      EXPECT_EQ(sent(0), (several ? 2 : 1) * sent(1)) << "the gradient and z (H z)";
      EXPECT_EQ(sent(2), sent(0));
      EXPECT_EQ(sent(3), sent(1));
    }
  }
}

// Weights, by the end of their name; 0 without one.
class Weights : public WeightSource {
 public:
  Weights(const Plan& plan, std::vector<std::pair<std::string, double>> values)
      : plan_(plan), values_(std::move(values)) {}
  bool has(std::string_view) const override { return true; }
  Shape shape(std::string_view name) const override {
    for (const Unit& unit : plan_.units) {
      for (const Segment& s : unit.segments) {
        if (s.name == name) return s.shape;
      }
    }
    throw InternalError("no such tensor", std::string(name));
  }
  void read(std::string_view name, int64_t, std::span<float> out) const override {
    std::fill(out.begin(), out.end(), static_cast<float>(value(name)));
  }
  void read(std::string_view name, int64_t, std::span<double> out) const override {
    std::fill(out.begin(), out.end(), value(name));
  }

 private:
  double value(std::string_view name) const {
    for (const auto& [end, value] : values_) {
      if (name.ends_with(end)) return value;
    }
    return 0.0;
  }
  const Plan& plan_;
  std::vector<std::pair<std::string, double>> values_;
};

// What rank 0 prints while `action` runs.
std::string screen_of(const std::function<void()>& action) {
  testing::internal::CaptureStdout();
  action();
  return world().gather_text(testing::internal::GetCapturedStdout()).front();
}

// The name of the plan step that a message says the overflow began in.
std::string origin_in(const std::string& message) {
  const std::string mark = "first in ";
  const size_t at = message.find(mark);
  EXPECT_NE(at, std::string::npos) << message;
  return at == std::string::npos ? "" : message.substr(at + mark.size());
}

// Embeddings of zero and a final layer norm of `gamma`: x is 0 before it and its output too, so
// that every gradient is 0. But x + a z gives it tangents of gamma z / sqrt(1e-5), and so H z of
// the embedding, through the head.
Weights flat(const Plan& plan, double gamma) {
  return Weights(plan, {{"ln_f.weight", gamma}, {"ln_1.weight", 1.0}, {"ln_2.weight", 1.0}});
}

TEST(AdaHessianTraining, HzThatIsNotFiniteIsSkippedAndNamed) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const int64_t stage : {0, 3}) {
      SCOPED_TRACE(testing::Message() << name_of(dtype) << " stage " << stage);
      const SharedFolder folder;
      CurvatureLaunch launch(folder, {.stage = stage, .dtype = dtype}, 1);
      launch.settings.steps = launch.settings.save_every = 3;
      const double gamma = dtype == DType::kF32 ? 3e38 : 1.7e308;
      std::string before;
      const std::string screen = screen_of([&] {
        launch.train([&] {
          load_weights(flat(launch.plan(), gamma), launch.executor());
          before = state_of(launch, launch.executor());
        });
      });
      EXPECT_TRUE(state_of(launch, launch.executor()) == before) << "something was updated";
      const std::vector<json> lines = my_metrics(folder);
      ASSERT_EQ(lines.size(), 3u);
      for (const json& line : lines) {
        EXPECT_EQ(line["skipped"], true);
        EXPECT_EQ(line["grad_norm"], 0.0);
        EXPECT_NEAR(line["loss"].get<double>(), std::log(256.0), 1e-5);
        EXPECT_TRUE(line["hessian"]["trace"].is_string()) << line["hessian"];
        EXPECT_EQ(line["hessian"]["sign_scale"], 1.0);
      }
      expect_same_on_all_ranks(lines);
      EXPECT_NE(screen.find("step 1  skipped: H z is not finite, first in "), std::string::npos)
          << screen;
      EXPECT_EQ(screen.find("scale"), std::string::npos) << screen;
      // The tangent of the final layer norm's output.
      EXPECT_TRUE(origin_in(screen).starts_with("head/norm (rank 0, micro-step 0)\n")) << screen;
      const std::string checkpoint = folder.at("checkpoints/step-00000003");
      EXPECT_EQ(read_checkpoint_summary(checkpoint).info.state, StepState{});
    }
  }
}

// A checkpoint of fresh weights, after step 1, with these scales.
void save_with_scales(const SharedFolder& folder, Launch& launch, double loss_scale,
                      double sign_scale) {
  CheckpointInfo info;
  info.step = 1;
  info.state.loss_scale.scale = loss_scale;
  info.state.sign_scale.scale = sign_scale;
  info.plan_hash = launch.settings.plan_hash;
  info.data_fingerprint = launch.settings.data_fingerprint;
  info.cpu_features = launch.settings.cpu_features;
  save_checkpoint(folder.path(), launch.executor(), info, 2);
}

// z so large that H z leaves 16 bits: its own scale drops, not that of the gradient.
TEST(AdaHessianTraining, InFp16TheScaleOfSignsDropsUntilHzFits) {
  for (const int64_t stage : {0, 3}) {
    SCOPED_TRACE(testing::Message() << "stage " << stage);
    const SharedFolder folder;
    CurvatureLaunch launch(folder, {.stage = stage, .dtype = DType::kF16});
    launch.executor().run(launch.plan().program("init"));
    save_with_scales(folder, launch, 1024.0, 0x1p14);
    const std::string before = state_of(launch, launch.executor());
    launch.settings.resume = true;
    launch.settings.steps = launch.settings.save_every = 3;
    const std::string screen = screen_of([&] { launch.train(); });
    EXPECT_TRUE(state_of(launch, launch.executor()) == before) << "something was updated";
    EXPECT_NE(screen.find("step 2  skipped: H z is not finite at sign scale 16384 and loss scale "
                          "1024, first in "),
              std::string::npos)
        << screen;
    EXPECT_EQ(screen.find("step 3  skipped"), std::string::npos) << "named once: " << screen;

    CurvatureLaunch further(folder, {.stage = stage, .dtype = DType::kF16});
    further.settings.resume = true;
    further.settings.steps = 60;
    further.train();
    const std::vector<json> lines = my_metrics(folder);
    ASSERT_EQ(lines.size(), 59u);
    double scale = 0x1p14;
    size_t skipped = 0;
    for (; lines[skipped]["skipped"] == true; ++skipped, scale /= 2) {
      ASSERT_LT(skipped + 1, lines.size()) << "it does not recover";
      EXPECT_TRUE(lines[skipped]["grad_norm"].is_number());
      EXPECT_EQ(lines[skipped]["hessian"]["sign_scale"], scale);
    }
    EXPECT_GE(skipped, 3u);
    EXPECT_LT(skipped, 20u);
    for (size_t i = skipped; i < lines.size(); ++i) {
      EXPECT_EQ(lines[i]["skipped"], false) << i;
      EXPECT_EQ(lines[i].contains("hessian"), (i - skipped) % 2 == 0) << i;
      if (!lines[i].contains("hessian")) continue;
      EXPECT_EQ(lines[i]["hessian"]["sign_scale"], scale) << i;
    }
    for (const json& line : lines) EXPECT_EQ(line["loss_scale"], 1024.0);
    EXPECT_LT(lines.back()["loss"].get<double>(), lines.front()["loss"].get<double>() - 0.2);
    expect_same_on_all_ranks(lines);
  }
}

// A gradient that is not finite takes H z along: then it is the loss scale that drops.
TEST(AdaHessianTraining, AnOverflowOfTheGradientDropsTheLossScale) {
  const SharedFolder folder;
  CurvatureLaunch launch(folder, {.stage = 3, .dtype = DType::kF16});
  launch.settings.loss_scale.initial_scale = 0x1p30;
  launch.settings.steps = launch.settings.save_every = 3;
  const std::string screen = screen_of([&] { launch.train(); });
  EXPECT_NE(screen.find("step 1  skipped: not finite at loss scale 1.07374e+09, first in head/"),
            std::string::npos)
      << screen;
  EXPECT_EQ(screen.find("H z"), std::string::npos) << screen;
  double scale = 0x1p30;
  for (const json& line : my_metrics(folder)) {
    EXPECT_EQ(line["skipped"], true);
    EXPECT_EQ(line["loss_scale"], scale);
    EXPECT_EQ(line["hessian"]["sign_scale"], 0x1p-7);
    scale /= 2;
  }
  const StepState state =
      read_checkpoint_summary(folder.at("checkpoints/step-00000003")).info.state;
  EXPECT_EQ(state.loss_scale.scale, 0x1p27);
  EXPECT_EQ(state.sign_scale.scale, 0x1p-7);
  EXPECT_EQ(state.applied, 0);
  EXPECT_EQ(state.measured, 0);
}

TEST(AdaHessianTraining, StopsWhereTheScaleOfSignsCannotDrop) {
  const SharedFolder folder;
  CurvatureLaunch launch(folder, {.stage = 3, .dtype = DType::kF16});
  load_weights(flat(launch.plan(), 60000.0), launch.executor());
  save_with_scales(folder, launch, 0x1p20, 0x1p-13);
  launch.settings.resume = true;
  const std::string message = error_of([&] { launch.train(); }, ExitCode::kFailed);
  for (const char* part : {"step 3  skipped: H z is not finite at sign scale 6.10352e-05",
                           "first in ", "the scale of z is at its least", "FP32"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in " << message;
  }
  EXPECT_EQ(message.find("precision.min_loss_scale"), std::string::npos) << message;
  EXPECT_EQ(my_metrics(folder).size(), 2u) << "its last step is on record";
  for (const std::string& theirs : world().gather_text(message)) EXPECT_EQ(theirs, message);
}

}  // namespace
}  // namespace memwall::test
