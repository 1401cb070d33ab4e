// Checkpoint folders: what is valid, what is refused, and weights read from them.
#include "runtime/train/checkpoint.h"

#include <gtest/gtest.h>

#include "comm/self/self_communicator.h"
#include "tests/train/file_limit.h"
#include "tests/train/train_fixture.h"

namespace memwall::test {
namespace {

bool leads() {
  return world().rank() == 0;
}

std::string folder_of(const SharedFolder& run, int64_t step) {
  return run.at("checkpoints/step-0000000" + std::to_string(step));
}

// A fresh executor with a checkpoint of each of `steps`.
void save_step(const SharedFolder& run, Launch& launch, int64_t step, int64_t keep = 10) {
  CheckpointInfo info;
  info.step = step;
  save_checkpoint(run.path(), launch.executor(), info, keep);
}
void save_steps(const SharedFolder& run, Launch& launch, std::initializer_list<int64_t> steps,
                int64_t keep = 10) {
  launch.executor().run(launch.plan().program("init"));
  for (int64_t step : steps) save_step(run, launch, step, keep);
}

// By rank 0, while no rank reads.
void edit(const std::string& path, const std::function<void(std::string&)>& change) {
  world().barrier();
  if (leads()) {
    std::string text = contents_of(path);
    change(text);
    std::ofstream(path, std::ios::binary) << text;
  }
  world().barrier();
}

TEST(Checkpoint, SaysWhatWasSaved) {
  const SharedFolder run;
  Launch launch(run, {.stage = 2});
  launch.executor().run(launch.plan().program("init"));
  CheckpointInfo saved;
  saved.step = 7;
  saved.state.applied = 6;
  saved.plan_hash = 0xfedcba9876543210u;
  saved.data_fingerprint = 12;
  saved.cpu_features = "avx512f \"quoted\"";
  saved.state.loss_scale = {0.1 + 0.2, 3, 1};
  saved.state.measured = 2;
  saved.state.sign_scale = {0x1p-9, 5, 0};
  save_checkpoint(run.path(), launch.executor(), saved, 1);
  const CheckpointInfo loaded = load_checkpoint(folder_of(run, 7), launch.executor());
  EXPECT_EQ(loaded.step, 7);
  EXPECT_EQ(loaded.plan_hash, saved.plan_hash);
  EXPECT_EQ(loaded.data_fingerprint, saved.data_fingerprint);
  EXPECT_EQ(loaded.cpu_features, saved.cpu_features);
  EXPECT_EQ(loaded.state, saved.state);
  EXPECT_EQ(read_checkpoint_summary(folder_of(run, 7)).ranks, world().size());
}

TEST(Checkpoint, OnlyTheNewestAreKept) {
  const SharedFolder run;
  Launch launch(run, {.stage = 3});
  save_steps(run, launch, {1, 2, 3, 4}, 2);
  EXPECT_EQ(names_in(run.at("checkpoints")),
            (std::vector<std::string>{"step-00000003", "step-00000004"}));
  EXPECT_EQ(newest_checkpoint(run.path()), folder_of(run, 4));
}

TEST(Checkpoint, WhatIsHalfWrittenIsPassedOver) {
  const SharedFolder run;
  EXPECT_EQ(newest_checkpoint(run.path()), "");
  EXPECT_EQ(damage_of_newest(run.path()), "");
  Launch launch(run, {});
  save_steps(run, launch, {1, 2, 3, 4});
  if (leads()) {
    fs::create_directory(run.at("checkpoints/step-00000009"));
    fs::create_directory(run.at("checkpoints/.tmp-step-00000008"));
    std::ofstream(run.at("checkpoints/step-notes")) << "not ours";
    fs::remove(folder_of(run, 4) + "/manifest.textproto");
    fs::resize_file(folder_of(run, 3) + "/rank-00000.bin", 100);
  }
  world().barrier();
  EXPECT_EQ(newest_checkpoint(run.path()), folder_of(run, 2));
  EXPECT_NE(damage_of_newest(run.path()).find("step-00000009/manifest"), std::string::npos);
  edit(folder_of(run, 2) + "/manifest.textproto", [](std::string& text) { text[20] ^= 1; });
  EXPECT_EQ(newest_checkpoint(run.path()), folder_of(run, 1));
  world().barrier();
  save_steps(run, launch, {4});  // in the place of the broken one
  EXPECT_EQ(newest_checkpoint(run.path()), folder_of(run, 4));
  EXPECT_FALSE(fs::exists(run.at("checkpoints/.tmp-step-00000008")));
  EXPECT_TRUE(fs::exists(run.at("checkpoints/step-notes")));
}

TEST(Checkpoint, DamageIsNamed) {
  const SharedFolder run;
  Launch launch(run, {.stage = 1});
  save_steps(run, launch, {1});
  const std::string file = folder_of(run, 1) + "/rank-00000.bin";
  const std::string manifest = folder_of(run, 1) + "/manifest.textproto";
  const std::string good = leads() ? contents_of(file) : "";
  const auto message = [&] {
    return error_of([&] { load_checkpoint(folder_of(run, 1), launch.executor()); },
                    ExitCode::kBadInput);
  };
  const auto expect = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  edit(file, [](std::string& text) { text[1000] ^= 1; });
  expect(message(), "parameters of unit 'embedding' do not match their checksum");
  expect(message(), "rank-00000.bin");
  edit(file, [&](std::string& text) { (text = good).back() ^= 1; });
  expect(message(), "checksums do not match the manifest");
  edit(file, [&](std::string& text) { text = good.substr(0, good.size() - 8); });
  expect(message(), "bytes, the manifest says");
  edit(file, [&](std::string& text) { text = good; });
  EXPECT_NO_THROW(load_checkpoint(folder_of(run, 1), launch.executor()));
  world().barrier();
  edit(manifest, [](std::string& text) { text.resize(text.size() / 2); });
  expect(message(), "manifest does not match its checksum");
  if (leads()) fs::remove(manifest);
  world().barrier();
  expect(message(), "manifest.textproto");
}

TEST(Checkpoint, AnotherModelIsRefused) {
  const SharedFolder run;
  Launch launch(run, {});
  save_steps(run, launch, {1});
  Launch wider(run, {.hidden = 64}), exact(run, {.dtype = DType::kF64});
  const auto message = [&](Launch& other) {
    return error_of([&] { load_checkpoint(folder_of(run, 1), other.executor()); },
                    ExitCode::kBadInput);
  };
  EXPECT_NE(message(wider).find("'wte.weight'"), std::string::npos) << message(wider);
  EXPECT_NE(message(exact).find("f32, the plan f64"), std::string::npos) << message(exact);
}

TEST(Checkpoint, AnotherRankCountIsRefusedAndNamed) {
  if (world().size() == 1) GTEST_SKIP() << "for several ranks";
  const SharedFolder run;
  Launch launch(run, {});
  save_steps(run, launch, {1});
  SelfCommunicator alone;
  Launch single(run, {}, alone);
  const std::string message =
      error_of([&] { load_checkpoint(folder_of(run, 1), single.executor()); }, ExitCode::kBadInput);
  EXPECT_NE(message.find("optimizer state cannot be resharded yet"), std::string::npos) << message;
}

TEST(Checkpoint, AFullDiskOnOneRankFailsAllAndLeavesWhatWasValid) {
  const SharedFolder run;
  Launch launch(run, {.stage = 3});
  save_steps(run, launch, {1});
  {
    std::optional<FileLimit> limit;
    if (world().rank() == world().size() - 1) limit.emplace(5000);
    const std::string message = error_of([&] { save_step(run, launch, 2, 1); }, ExitCode::kFailed);
    EXPECT_NE(message.find("cannot reserve"), std::string::npos) << message;
  }
  world().barrier();
  EXPECT_EQ(names_in(run.at("checkpoints")), std::vector<std::string>{"step-00000001"});
  EXPECT_EQ(newest_checkpoint(run.path()), folder_of(run, 1));
}

// Initialisation is counter-based: the weights of any rank count are those of one rank.
TEST(CheckpointWeights, AreThoseOfOneRank) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    for (int64_t stage : {0, 3}) {
      const SharedFolder run;
      Launch launch(run, {.stage = stage, .dtype = dtype});
      save_steps(run, launch, {1});
      const auto source = open_checkpoint_weights(folder_of(run, 1));
      SelfCommunicator alone;
      Launch expected(run, {.dtype = dtype}, alone);
      expected.executor().run(expected.plan().program("init"));
      Launch loaded(run, {.dtype = dtype}, alone);
      load_weights(*source, loaded.executor());
      for (const Slot& slot : expected.plan().slots) {
        if (slot.kind != SlotKind::kParameter) continue;
        EXPECT_EQ(std::memcmp(expected.executor().slot(slot).data,
                              loaded.executor().slot(slot).data, static_cast<size_t>(slot.bytes)),
                  0)
            << expected.plan().units[static_cast<size_t>(slot.unit)].name;
      }
      Launch back(run, {.stage = stage, .dtype = dtype});  // into shards
      load_weights(*source, back.executor());
      for (const Slot& slot : back.plan().slots) {
        if (slot.kind != SlotKind::kParameter) continue;
        EXPECT_EQ(std::memcmp(back.executor().slot(slot).data, launch.executor().slot(slot).data,
                              static_cast<size_t>(slot.bytes)),
                  0);
      }
    }
  }
}

TEST(CheckpointWeights, AnyRangeCanBeRead) {
  const SharedFolder run;
  Launch launch(run, {.stage = 3});
  save_steps(run, launch, {1});
  const auto source = open_checkpoint_weights(folder_of(run, 1));
  EXPECT_FALSE(source->has("wte"));
  ASSERT_TRUE(source->has("wte.weight"));
  EXPECT_EQ(source->shape("wte.weight"), (Shape{256, 32}));
  std::vector<float> whole(256 * 32);
  source->read("wte.weight", 0, std::span(whole));
  for (int64_t first : {0, 1, 4000, 4600, 8191}) {
    std::vector<double> part(static_cast<size_t>(std::min<int64_t>(1000, 8192 - first)));
    source->read("wte.weight", first, std::span(part));
    for (size_t i = 0; i < part.size(); ++i) {
      ASSERT_EQ(part[i], static_cast<double>(whole[static_cast<size_t>(first) + i]));
    }
  }
  expect_input_error([&] { source->shape("wte"); }, {"no tensor 'wte'"});
}

TEST(CheckpointWeights, DamageIsNoticedWhereItIsRead) {
  const SharedFolder run;
  Launch launch(run, {.stage = 3});
  save_steps(run, launch, {1});
  edit(folder_of(run, 1) + "/rank-00000.bin", [](std::string& text) { text[1000] ^= 1; });
  const auto source = open_checkpoint_weights(folder_of(run, 1));
  std::vector<float> values(32);
  EXPECT_NO_THROW(source->read("ln_f.weight", 0, std::span(values)));
  expect_input_error([&] { source->read("wte.weight", 0, std::span(values)); }, {"embedding"});
  world().barrier();
  edit(folder_of(run, 1) + "/rank-00000.bin", [](std::string& text) { text.resize(500); });
  expect_input_error([&] { open_checkpoint_weights(folder_of(run, 1)); }, {"rank-00000.bin"});
}

TEST(CheckpointWeights, AnotherModelIsRefused) {
  const SharedFolder run;
  Launch launch(run, {});
  save_steps(run, launch, {1});
  Launch wider(run, {.hidden = 64});
  const auto source = open_checkpoint_weights(folder_of(run, 1));
  expect_input_error([&] { load_weights(*source, wider.executor()); }, {"wte.weight", "[256,32]"});
}

}  // namespace
}  // namespace memwall::test
