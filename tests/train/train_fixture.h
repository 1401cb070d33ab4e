// A tiny run on the ranks of a test: plan, executor, text and settings.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"
#include "runtime/train/checkpoint.h"
#include "runtime/train/trainer.h"
#include "tests/data/temporary_folder.h"
#include "tests/support/mpi_world.h"

namespace memwall::test {

namespace fs = std::filesystem;

// Text that a model can learn something of.
inline std::string sample_text(int64_t bytes) {
  std::string text;
  for (int64_t word = 0; static_cast<int64_t>(text.size()) < bytes; ++word) {
    const char* const words[] = {"the ", "memory ", "wall ", "stands. ", "we ", "compile ", "on\n"};
    text += words[(word * word + word / 3) % 7];
  }
  return text;
}

// One run folder for all ranks, and its text beside it; made and removed by rank 0.
class SharedFolder {
 public:
  SharedFolder() {
    if (world().rank() == 0) mine_.emplace();
    path_ = world().gather_text(mine_ ? mine_->at("run") : "").front();
    if (mine_) {
      fs::create_directories(path_);
      mine_->write("text.txt", sample_text(3000));
    }
    world().barrier();
  }
  ~SharedFolder() { world().barrier(); }
  const std::string& path() const { return path_; }
  std::string at(const std::string& name) const { return path_ + "/" + name; }
  std::string text() const { return path_ + "/../text.txt"; }

 private:
  std::optional<TemporaryFolder> mine_;
  std::string path_;
};

struct TinySettings {
  int64_t stage = 0;
  int64_t micro_steps = 1;
  int64_t prefetch_depth = 0;
  int64_t hidden = 32;
  DType dtype = DType::kF32;
  OptimizerSettings optimizer = {};
};

inline GptSpec tiny_model(const TinySettings& tiny) {
  GptSpec spec;
  spec.layers = 2;
  spec.hidden = tiny.hidden;
  spec.heads = 2;
  spec.context = 20;
  spec.vocabulary = 256;
  spec.batch = 2;
  spec.time = 16;
  spec.dropout = 0.1;
  spec.dtype = tiny.dtype;
  return spec;
}

inline Plan tiny_plan(const TinySettings& tiny, int64_t ranks) {
  CompileSettings settings;
  settings.ranks = ranks;
  settings.zero_stage = tiny.stage;
  settings.micro_steps = tiny.micro_steps;
  settings.prefetch_depth = tiny.prefetch_depth;
  settings.init_seed = 5;
  settings.grad_clip = 1.0;
  settings.optimizer = tiny.optimizer;
  return compile(Gpt2(tiny_model(tiny)), settings);
}

inline Dataset tiny_data(const std::string& text) {
  DatasetSpec spec;
  spec.text = text;
  spec.seq_length = 16;
  spec.vocabulary = 256;
  return open_dataset(spec);
}

// What one launch of `memwall train` has.
class Launch {
 public:
  Launch(const SharedFolder& run, const TinySettings& tiny, Communicator& comm = world())
      : plan_(tiny_plan(tiny, comm.size())),
        executor_(plan_, comm, 1),
        data_(tiny_data(run.text())) {
    settings.run_dir = run.path();
    settings.steps = 6;
    settings.global_batch = 2 * comm.size() * tiny.micro_steps;
    settings.micro_batch = 2;
    settings.seq_length = 16;
    settings.schedule.learning_rate = 1e-2;
    settings.peak_flops = 1e9;
    settings.plan_hash = 1;
    settings.data_fingerprint = data_.fingerprint;
    settings.cpu_features = "test";
  }

  TrainResult train(const std::function<void()>& at_start = [] {}) {
    return memwall::train(executor_, data_, settings, [&](Executor& executor) {
      executor.run(plan_.program("init"));
      at_start();
    });
  }

  const Plan& plan() const { return plan_; }
  Executor& executor() { return executor_; }
  const Dataset& data() const { return data_; }
  TrainSettings settings;

 private:
  Plan plan_;
  Executor executor_;
  Dataset data_;
};

inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  if (!fs::exists(folder)) return names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::vector<nlohmann::json> json_lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

inline std::string rank_name() {
  return "rank-0000" + std::to_string(world().rank());
}

// The message of the Error that `action` throws on this rank.
inline std::string error_of(const std::function<void()>& action, ExitCode code) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace memwall::test
