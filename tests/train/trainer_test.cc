// Whole runs: what is written, what is measured, stopping and going on.
#include "runtime/train/trainer.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>

#include "comm/self/self_communicator.h"
#include "tests/train/file_limit.h"
#include "tests/train/train_fixture.h"

namespace memwall::test {
namespace {

using nlohmann::json;

std::vector<json> metrics_of(const std::string& run_dir) {
  return json_lines(run_dir + "/metrics/" + rank_name() + ".jsonl");
}

// Of a line, what has to be the same when the step is run again.
json numbers_of(const json& line) {
  json out;
  for (const char* key : {"step", "loss", "grad_norm", "lr", "skipped"}) out[key] = line.at(key);
  return out;
}

// Six steps in one go, and three, a new process and three more.
void expect_bitwise_resumption(const TinySettings& tiny) {
  const SharedFolder straight, broken;
  Launch whole(straight, tiny);
  whole.settings.save_every = 6;
  whole.train();
  {
    Launch first(broken, tiny);
    first.settings.steps = 3;
    first.settings.save_every = 3;
    EXPECT_EQ(first.train().step, 3);
  }
  Launch second(broken, tiny);
  second.settings.resume = true;
  second.settings.save_every = 6;
  EXPECT_EQ(second.train([] { FAIL() << "initialised again"; }).step, 6);

  const std::string file = "/checkpoints/step-00000006/" + rank_name() + ".bin";
  const std::string expected = contents_of(straight.path() + file);
  EXPECT_FALSE(expected.empty());
  EXPECT_TRUE(contents_of(broken.path() + file) == expected) << "weights or moments differ";
  const auto a = metrics_of(straight.path()), b = metrics_of(broken.path());
  ASSERT_EQ(a.size(), 6u);
  ASSERT_EQ(b.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(numbers_of(a[i]), numbers_of(b[i]));
  EXPECT_LT(a[5]["loss"].get<double>(), a[0]["loss"].get<double>());
}

TEST(Trainer, ResumesBitwiseAtStage0) {
  expect_bitwise_resumption({.stage = 0});
}
TEST(Trainer, ResumesBitwiseAtStage1WithMicroSteps) {
  expect_bitwise_resumption({.stage = 1, .micro_steps = 3});
}
TEST(Trainer, ResumesBitwiseAtStage2) {
  expect_bitwise_resumption({.stage = 2});
}
TEST(Trainer, ResumesBitwiseAtStage3) {
  expect_bitwise_resumption({.stage = 3});
}
TEST(Trainer, ResumesBitwiseInFp64) {
  expect_bitwise_resumption({.stage = 3, .micro_steps = 2, .dtype = DType::kF64});
}

TEST(Trainer, ResumesBitwiseInBf16) {
  for (const int64_t stage : {0, 3}) {
    expect_bitwise_resumption({.stage = stage, .dtype = DType::kBF16});
  }
  expect_bitwise_resumption({.stage = 2, .micro_steps = 2, .dtype = DType::kBF16});
}

TEST(Trainer, ResumesBitwiseWithSgd) {
  expect_bitwise_resumption({.stage = 3, .optimizer = SgdSettings{.momentum = 0.9}});
  expect_bitwise_resumption({.stage = 1, .dtype = DType::kF16, .optimizer = SgdSettings{}});
}

TEST(Trainer, ResumesAtAnotherStage) {
  const SharedFolder folder;
  {
    Launch first(folder, {.stage = 3});
    first.settings.steps = 2;
    first.settings.save_every = 2;
    first.train();
  }
  Launch second(folder, {.stage = 0});
  second.settings.resume = true;
  second.settings.steps = 4;
  second.train();
  const auto lines = metrics_of(folder.path());
  ASSERT_EQ(lines.size(), 4u);
  const SharedFolder other;
  Launch straight(other, {.stage = 0});
  straight.settings.steps = 4;
  straight.train();
  EXPECT_EQ(numbers_of(metrics_of(other.path())[3]), numbers_of(lines[3]));
}

void raise_on_last_rank(int number) {
  if (world().rank() == world().size() - 1) raise(number);
}

TEST(Trainer, Sigusr1SavesAndStops) {
  const SharedFolder folder;
  Launch launch(folder, {.stage = 3});
  const TrainResult result = launch.train([] { raise_on_last_rank(SIGUSR1); });
  EXPECT_TRUE(result.stopped_on_request);
  EXPECT_EQ(result.step, 1);
  EXPECT_EQ(names_in(folder.at("checkpoints")), std::vector<std::string>{"step-00000001"});
  EXPECT_EQ(metrics_of(folder.path()).size(), 1u);
}

TEST(Trainer, Sigusr2SavesAndGoesOn) {
  const SharedFolder folder;
  Launch launch(folder, {});
  const TrainResult result = launch.train([] { raise_on_last_rank(SIGUSR2); });
  EXPECT_FALSE(result.stopped_on_request);
  EXPECT_EQ(result.step, 6);
  EXPECT_EQ(names_in(folder.at("checkpoints")), std::vector<std::string>{"step-00000001"});
}

TEST(Trainer, TheTimeLimitSavesAndStops) {
  const SharedFolder folder;
  Launch launch(folder, {});
  launch.settings.time_limit_seconds = 1e-6;
  EXPECT_TRUE(launch.train().stopped_on_request);
  EXPECT_EQ(names_in(folder.at("checkpoints")), std::vector<std::string>{"step-00000001"});
}

TEST(Trainer, ResumeWithoutACheckpointStartsFresh) {
  const SharedFolder folder;
  Launch launch(folder, {});
  launch.settings.resume = true;
  launch.settings.steps = 1;
  testing::internal::CaptureStdout();
  EXPECT_EQ(launch.train().step, 1);
  const std::string screen = testing::internal::GetCapturedStdout();
  const bool speaks = world().rank() == 0;
  EXPECT_EQ(screen.find("no checkpoint, starting fresh\n") == 0, speaks) << screen;
  EXPECT_EQ(screen.find("step 1/1  loss ") != std::string::npos, speaks) << screen;
}

TEST(Trainer, AFinishedRunHasNothingLeftToDo) {
  const SharedFolder folder;
  for (const bool resume : {false, true}) {
    Launch launch(folder, {});
    launch.settings.steps = 2;
    launch.settings.save_every = 2;
    launch.settings.resume = resume;
    EXPECT_EQ(launch.train().step, 2);
    EXPECT_EQ(metrics_of(folder.path()).size(), 2u);
  }
}

TEST(Trainer, LogsAreCutToTheCheckpoint) {
  const SharedFolder folder;
  {
    Launch launch(folder, {.stage = 3});
    launch.settings.steps = 5;
    launch.settings.eval_every = 1;
    launch.settings.save_every = 2;
    launch.train();
  }
  const auto before = metrics_of(folder.path());
  ASSERT_EQ(before.size(), 5u);
  if (world().rank() == 0) fs::remove_all(folder.at("checkpoints/step-00000005"));
  std::ofstream(folder.at("metrics/" + rank_name() + ".jsonl"), std::ios::app)
      << "{\"step\":6,\"lo";
  world().barrier();
  Launch launch(folder, {.stage = 3});
  launch.settings.resume = true;
  launch.settings.eval_every = 1;
  launch.train();
  const auto after = metrics_of(folder.path());
  ASSERT_EQ(after.size(), 6u);
  EXPECT_EQ(after[3], before[3]);  // as it was, clocks included
  EXPECT_NE(after[4], before[4]);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(numbers_of(after[i]), numbers_of(before[i]));
  world().barrier();  // rank 0 writes it
  const auto validation = json_lines(folder.at("validation.jsonl"));
  ASSERT_EQ(validation.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(validation[i]["step"], i + 1);
}

TEST(Trainer, AnotherTextIsRefusedOnResume) {
  const SharedFolder folder;
  Launch launch(folder, {});
  launch.settings.steps = launch.settings.save_every = 1;
  launch.train();
  launch.settings.resume = true;
  ++launch.settings.data_fingerprint;
  const std::string message = error_of([&] { launch.train(); }, ExitCode::kBadInput);
  EXPECT_NE(message.find("data files"), std::string::npos) << message;
}

const json& at_path(const json& line, const std::string& path) {
  return line.at(json::json_pointer(path));
}

void check_metrics_line(const json& line, int64_t global_tokens) {
  for (const char* key : {"/loss", "/grad_norm", "/lr", "/loss_scale", "/step_seconds",
                          "/tokens_per_second", "/model_flops_utilisation"}) {
    EXPECT_GT(at_path(line, key).get<double>(), 0.0) << key;
  }
  EXPECT_EQ(line.at("skipped"), false);
  EXPECT_EQ(line.at("tokens_per_second").get<double>(),
            static_cast<double>(global_tokens) / line.at("step_seconds").get<double>());
  const json& memory = at_path(line, "/planned/memory");
  for (size_t c = 0; c < kCategoryCount; ++c) {
    const std::string name(name_of(static_cast<Category>(c)));
    EXPECT_GE(memory.at("maximum").at(name).get<int64_t>(), memory.at(name).get<int64_t>()) << name;
  }
  EXPECT_EQ(memory.size(), kCategoryCount + 6);
  EXPECT_EQ(memory.at("windows"), 0) << "the ranks of this test exchange messages";
  EXPECT_EQ(memory.at("windows_mapped"), at_path(line, "/measured/memory/windows_mapped"));
  EXPECT_GE(memory.at("peak").get<int64_t>(), 1);
  EXPECT_GE(memory.at("lower_bound").get<int64_t>(), 1);
  EXPECT_EQ(memory.at("page_bytes"), 4096);
  EXPECT_EQ(memory.at("peak"), at_path(line, "/measured/memory/peak"));
  EXPECT_EQ(at_path(line, "/planned/traffic"), at_path(line, "/measured/traffic"));
  EXPECT_EQ(at_path(line, "/measured/traffic/all_reduce/calls"), world().size() > 1 ? 1 : 0);
  int64_t outside = 0;
  for (const auto& [name, bytes] : at_path(line, "/measured/memory/outside").items()) {
    outside += bytes.get<int64_t>();
  }
  EXPECT_EQ(outside + memory.at("peak").get<int64_t>(), at_path(line, "/measured/memory/rss_anon"));
  EXPECT_GT(at_path(line, "/measured/seconds/total").get<double>(),
            at_path(line, "/measured/seconds/update").get<double>());
}

// Planned = measured on every rank, before and after an evaluation, fresh and resumed.
TEST(Trainer, MetricsHaveEveryKeyAndPlannedIsMeasured) {
  for (int64_t stage : {0, 1, 2, 3}) {
    for (int64_t micro_steps : {1, 2}) {
      SCOPED_TRACE(testing::Message() << "stage " << stage << " micro " << micro_steps);
      const SharedFolder folder;
      for (const bool resume : {false, true}) {
        Launch launch(folder, {.stage = stage, .micro_steps = micro_steps});
        launch.settings.resume = resume;
        launch.settings.steps = resume ? 4 : 3;
        launch.settings.eval_every = 2;
        launch.settings.save_every = 3;
        launch.settings.outside.baseline_bytes = 1 << 20;
        launch.train();
        const auto lines = metrics_of(folder.path());
        ASSERT_EQ(lines.size(), resume ? 4u : 3u);
        for (const json& line : lines) {
          check_metrics_line(line, launch.settings.global_batch * launch.settings.seq_length);
        }
      }
    }
  }
}

// A weight that is not a number: the step is skipped, said so, and not counted.
TEST(Trainer, SkippedStepsLeaveTheStateAndTheCountOfSteps) {
  const SharedFolder folder;
  Launch launch(folder, {});
  launch.settings.steps = launch.settings.save_every = 2;
  launch.train(
      [&] { launch.executor().slot(SlotKind::kParameter, 0).as<float>()[0] = std::nanf(""); });
  const auto lines = metrics_of(folder.path());
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1]["skipped"], true);
  EXPECT_EQ(lines[1]["loss"], "nan");
  EXPECT_EQ(lines[1]["grad_norm"], "nan");
  const std::string checkpoint = folder.at("checkpoints/step-00000002");
  EXPECT_EQ(read_checkpoint_summary(checkpoint).info.state.applied, 0);
  std::vector<float> bias(32);
  open_checkpoint_weights(checkpoint)->read("ln_f.bias", 0, std::span(bias));
  for (float value : bias) EXPECT_EQ(value, 0.0f);
}

TEST(Trainer, TheMetricsAreTheSameOnAllRanks) {
  const SharedFolder folder;
  Launch launch(folder, {.stage = 2});
  launch.train();
  std::string mine;
  for (const json& line : metrics_of(folder.path())) mine += numbers_of(line).dump();
  for (const std::string& theirs : world().gather_text(mine)) EXPECT_EQ(theirs, mine);
}

TEST(Trainer, EvaluationDoesNotDependOnTheRanks) {
  const SharedFolder folder;
  Launch launch(folder, {.stage = 3});
  launch.executor().run(launch.plan().program("init"));
  const Evaluation found = evaluate(launch.executor(), launch.data().validation, 16, 2);
  SelfCommunicator alone;
  Launch single(folder, {}, alone);
  single.executor().run(single.plan().program("init"));
  const Evaluation expected = evaluate(single.executor(), single.data().validation, 16, 2);
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_NEAR(found.loss, expected.loss, 1e-6 * expected.loss);
  EXPECT_NEAR(found.loss, std::log(256.0), 0.1);
  const auto all = world().gather_all({found.loss});
  for (double theirs : all) EXPECT_EQ(theirs, found.loss);
}

TEST(Trainer, AFullDiskWhileLoggingEndsTheRun) {
  const SharedFolder folder;
  Launch launch(folder, {});
  const FileLimit limit(4000);
  const std::string message = error_of([&] { launch.train(); }, ExitCode::kFailed);
  EXPECT_NE(message.find(".jsonl: cannot write: "), std::string::npos) << message;
  EXPECT_EQ(metrics_of(folder.path()).empty(), false);
}

TEST(Trainer, EvaluationWithoutDataIsRefused) {
  const SharedFolder folder;
  Launch launch(folder, {});
  launch.settings.eval_every = 1;
  Dataset data = launch.data();
  data.validation = {};
  const auto train_without = [&] {
    memwall::train(launch.executor(), data, launch.settings, [](Executor&) {});
  };
  const std::string message = error_of(train_without, ExitCode::kBadInput);
  EXPECT_NE(message.find("run.eval_every"), std::string::npos) << message;
}

}  // namespace
}  // namespace memwall::test
