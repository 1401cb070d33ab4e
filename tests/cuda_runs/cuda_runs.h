// Runs of a tiny model by the built binary: on CPUs, and on imitated GPUs.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/cli/memwall_process.h"

namespace memwall::test {

using Json = nlohmann::json;
using Words = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

// Variables of the environment, as long as it lives; "" unsets one.
class Environment {
 public:
  explicit Environment(const Variables& variables) {
    for (const auto& [name, value] : variables) {
      const char* before = getenv(name.c_str());
      before_[name] = before == nullptr ? "" : before;
      set(name, value);
    }
  }
  ~Environment() {
    for (const auto& [name, value] : before_) set(name, value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  static void set(const std::string& name, const std::string& value) {
    if (value.empty()) {
      unsetenv(name.c_str());
    } else {
      setenv(name.c_str(), value.c_str(), 1);
    }
  }
  Variables before_;
};

inline std::vector<Json> json_lines(const fs::path& path) {
  std::vector<Json> out;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) out.push_back(Json::parse(line));
  return out;
}

// What a run computed, step by step: equal where every bit is.
struct Course {
  std::vector<double> losses, norms;
  bool operator==(const Course&) const = default;
};

inline void PrintTo(const Course& course, std::ostream* out) {
  *out << std::hexfloat;
  for (size_t i = 0; i < course.losses.size(); ++i) {
    *out << "\n  " << course.losses[i] << "  " << course.norms[i];
  }
}

// Losses and norms within a relative difference.
inline void expect_near(const Course& a, const Course& b, double tolerance) {
  ASSERT_EQ(a.losses.size(), b.losses.size());
  for (size_t i = 0; i < a.losses.size(); ++i) {
    EXPECT_NEAR(a.losses[i], b.losses[i], tolerance * std::abs(b.losses[i])) << "step " << i + 1;
    EXPECT_NEAR(a.norms[i], b.norms[i], tolerance * std::abs(b.norms[i])) << "step " << i + 1;
  }
}

class CudaRuns : public testing::Test {
 protected:
  CudaRuns() {
    write_text(place.config(), R"(model { num_layers: 2 hidden_size: 16 num_heads: 2
        context_length: 16 vocab_size: 256 }
data { text: "text.txt" seq_length: 16 micro_batch_size: 2 global_batch_size: 4 }
optimizer { learning_rate: 0.01 }
run { name: "tiny" steps: 5 peak_flops: 1e9 }
)");
  }

  struct Asked {
    int ranks = 2;
    std::string device = "CUDA";
    Words set;            // FIELD=VALUE
    Variables variables;  // beside the imitated module
    int gpus = 1;
  };
  // All ranks on one GPU, or each on its own.
  static Asked staged(int ranks, Words set) { return {ranks, "CUDA", std::move(set), {}, 1}; }
  static Asked nccl(int ranks, Words set) { return {ranks, "CUDA", std::move(set), {}, ranks}; }
  static Asked cpu(int ranks, Words set) { return {ranks, "CPU", std::move(set), {}, 1}; }

  Outcome try_train(const std::string& folder, const Asked& asked, Words more = {}) {
    Variables variables = {{"MEMWALL_CUDA_MODULE", MEMWALL_IMITATED_MODULE},
                           {"MEMWALL_IMITATED_GPUS", std::to_string(asked.gpus)},
                           {"MEMWALL_IMITATED_GPU_PATIENCE", "30"}};
    for (const auto& [name, value] : asked.variables) variables[name] = value;
    const Environment environment(variables);
    more.insert(more.begin(), {"train", "tiny.textproto", "--run-dir", folder, "--set",
                               "run.device=" + asked.device});
    for (const std::string& field : asked.set) more.insert(more.end(), {"--set", field});
    return place.memwall(more, asked.ranks == 1 ? 0 : asked.ranks);
  }

  // Trains in a folder of its own, and checks that what was planned was measured.
  Course train(const Asked& asked, const std::string& named = "") {
    const std::string folder = named.empty() ? "run-" + std::to_string(++runs_) : named;
    const Outcome outcome = try_train(folder, asked);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err << outcome.out;
    if (outcome.exit_code != 0) return {};
    for (int rank = 0; rank < asked.ranks; ++rank) {
      for (const Json& line : metrics(folder, rank)) {
        EXPECT_EQ(line["planned"]["traffic"], line["measured"]["traffic"]) << folder << ' ' << rank;
        EXPECT_EQ(line["planned"]["memory"]["peak"], line["measured"]["memory"]["peak"])
            << folder << ' ' << rank;
      }
    }
    return course(folder);
  }

  // The same, and what each rank's imitated libraries counted, rank by rank.
  std::vector<Json> counts_of(Asked asked, const std::string& folder) {
    const fs::path file = place.path(folder + ".counts");
    asked.variables["MEMWALL_IMITATED_GPU_COUNTS"] = file.string();
    train(asked, folder);
    std::vector<Json> lines = json_lines(file);
    EXPECT_EQ(lines.size(), static_cast<size_t>(asked.ranks));
    std::sort(lines.begin(), lines.end(),
              [](const Json& a, const Json& b) { return a["rank"] < b["rank"]; });
    return lines;
  }

  std::vector<Json> metrics(const std::string& folder, int rank = 0) const {
    return json_lines(place.path(folder) / "metrics" /
                      ("rank-0000" + std::to_string(rank) + ".jsonl"));
  }

  Course course(const std::string& folder) const {
    Course out;
    for (const Json& line : metrics(folder)) {
      out.losses.push_back(line["loss"].get<double>());
      out.norms.push_back(line["grad_norm"].get<double>());
    }
    EXPECT_FALSE(out.losses.empty()) << folder;
    return out;
  }

  // The weights of the run's last checkpoint, as a file that holds nothing else.
  std::string weights(const std::string& folder) const {
    const Environment environment(Variables{{"MEMWALL_CUDA_MODULE", "/nonexistent"}});
    const Outcome outcome = place.memwall({"export", folder, folder + "-weights"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const std::string bytes = file_text(place.path(folder + "-weights/model.safetensors"));
    EXPECT_FALSE(bytes.empty());
    return bytes;
  }

  const Workplace place{"cuda"};

 private:
  int runs_ = 0;
};

inline int64_t number(const Json& object, const char* name) {
  return object.contains(name) ? object[name].get<int64_t>() : 0;
}

inline Words with(Words fields, const Words& more) {
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}
inline std::string stage(int number) {
  return "parallel.zero_stage=" + std::to_string(number);
}

}  // namespace memwall::test
