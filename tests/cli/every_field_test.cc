// Nothing is silently ignored: every field of the schema, given another value, changes the plan,
// changes the run, or is an error that names it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/cli/settings.h"

namespace memwall {
namespace {

constexpr int64_t kRanks = 2;

constexpr const char* kBase = R"(
model { num_layers: 2 hidden_size: 16 num_heads: 2 context_length: 16 vocab_size: 256 }
data { text: "text.txt" micro_batch_size: 2 global_batch_size: 8 }
schedule { kind: COSINE }
parallel { zero_stage: 3 }
run { steps: 6 }
)";

// Another value for every field. A field of the schema that is missing here fails the test.
const std::map<std::string, std::string>& other_values() {
  static const std::map<std::string, std::string> values = {
      {"model.family", "LLAMA"},
      {"model.num_layers", "3"},
      {"model.hidden_size", "32"},
      {"model.num_heads", "4"},
      {"model.context_length", "32"},
      {"model.vocab_size", "512"},
      {"model.dropout", "0.1"},
      {"model.init_seed", "7"},
      {"model.init_from", "folder"},
      {"data.text", "other.txt"},
      {"data.tokens", "train-*.bin"},
      {"data.validation_tokens", "validation-*.bin"},  // beside data.tokens
      {"data.tokenizer", "sentences.model"},
      {"data.validation_fraction", "0.2"},
      {"data.seq_length", "8"},
      {"data.micro_batch_size", "1"},
      {"data.global_batch_size", "16"},
      {"data.sampling", "SEQUENTIAL"},
      {"optimizer.kind", "SGD"},
      {"optimizer.learning_rate", "0.02"},
      {"optimizer.beta1", "0.8"},
      {"optimizer.beta2", "0.9"},
      {"optimizer.eps", "1e-6"},
      {"optimizer.weight_decay", "0.3"},
      {"optimizer.grad_clip", "0.5"},
      {"optimizer.momentum", "0.9"},
      {"optimizer.adahessian.hessian_power", "0.5"},
      {"optimizer.adahessian.block_size", "2"},
      {"optimizer.adahessian.update_every", "2"},
      {"optimizer.adahessian.probes", "2"},
      {"schedule.kind", "CONSTANT"},
      {"schedule.warmup_steps", "2"},
      {"schedule.min_learning_rate", "1e-4"},
      {"schedule.decay_steps", "3"},
      {"precision.mode", "FP64"},
      {"precision.tf32", "true"},
      {"precision.initial_loss_scale", "1024"},
      {"precision.growth_interval", "7"},
      {"precision.backoff", "0.25"},
      {"precision.hysteresis", "2"},
      {"precision.min_loss_scale", "2"},
      {"parallel.zero_stage", "1"},
      {"parallel.prefetch_depth", "2"},
      {"communication.transport", "MPI"},
      {"communication.algorithm", "RING"},
      {"communication.cluster", "none.textproto"},  // one that is there: below
      {"communication.timeout_seconds", "5"},
      {"communication.symmetric_windows", "true"},
      {"activation_checkpointing.policy", "BLOCK"},
      {"activation_checkpointing.keep", "block*/attn"},
      {"activation_checkpointing.preset", "cheap"},
      {"memory.budget", "3MiB"},
      {"run.name", "another"},
      {"run.steps", "9"},
      {"run.seed", "3"},
      {"run.log_every", "3"},
      {"run.eval_every", "2"},
      {"run.save_every", "2"},
      {"run.keep_checkpoints", "5"},
      {"run.time_limit", "3h"},
      {"run.device", "CUDA"},
      {"run.peak_flops", "1e12"},
      {"run.trace_steps", "2-3"},
      {"run.fused_attention", "false"},
      {"run.product_epilogues", "false"},
      {"run.cuda_graphs", "true"},
  };
  return values;
}

std::string text_of(const TrainSettings& s) {
  std::string out = fmt::format(
      "steps {} log {} eval {} save {} keep {} limit {} seed {} sampling {} batch {} of {} time {} "
      "curvature {} trace {}-{}",
      s.steps, s.log_every, s.eval_every, s.save_every, s.keep_checkpoints, s.time_limit_seconds,
      s.seed, static_cast<int>(s.sampling), s.micro_batch, s.global_batch, s.seq_length,
      s.curvature_every, s.trace_first_step, s.trace_last_step);
  for (int64_t step = 0; step < 6; ++step) out += fmt::format(" {}", s.schedule.at(step));
  return out;
}

std::string text_of(const DatasetSpec& d) {
  std::string out = fmt::format("text {} fraction {} time {} vocabulary {} tokenizer {}", d.text,
                                d.validation_fraction, d.seq_length, d.vocabulary, d.tokenizer);
  for (const std::string& file : d.token_files) out += " tokens " + file;
  for (const std::string& file : d.validation_token_files) out += " validation " + file;
  return out;
}

// Whatever a run makes of its configuration: the plan, the step loop's and the data's settings, and
// what the verbs read themselves (run_command_test and command_test hold those effects).
std::string consequences(const config::Config& c) {
  const Plan plan = compile(Gpt2(gpt_spec(c)), compile_settings(c, kRanks));
  return fmt::format("plan {}\n{}\n{}\n{} {} {} {} {}", plan_hash(plan),
                     text_of(train_settings(c, kRanks)), text_of(dataset_spec(c, true)),
                     c.run().name(), c.run().peak_flops(), budget_bytes(c), c.model().init_from(),
                     c.communication().timeout_seconds());
}

class EveryField : public testing::Test {
 protected:
  void SetUp() override { std::ofstream(file_) << kBase; }
  void TearDown() override { std::filesystem::remove(file_); }

  // What a run with these overrides is; nullopt and `error` where it is refused.
  std::optional<std::string> run(const std::vector<std::string>& overrides, std::string& error) {
    try {
      const GivenConfig given = load_config(file_, overrides);
      validate(given, kRanks, Purpose::kTrain);
      return consequences(effective(given.config, kRanks));
    } catch (const InputError& refused) {
      error = refused.what();
      return std::nullopt;
    }
  }
  const std::string file_ =
      fmt::format("{}memwall-every-field-{}.textproto", testing::TempDir(), ::getpid());
};

TEST_F(EveryField, HasAnEffectOrIsRefused) {
  for (const std::string& field : all_fields()) {
    const auto other = other_values().find(field);
    if (other == other_values().end()) {
      ADD_FAILURE() << field << " is new: add another value for it above";
      continue;
    }
    std::vector<std::string> overrides;
    if (field == "data.validation_tokens") overrides = {"data.tokens=train-*.bin"};
    if (field.starts_with("optimizer.adahessian.")) overrides = {"optimizer.kind=ADAHESSIAN"};
    std::string error;
    const std::optional<std::string> base = run(overrides, error);
    ASSERT_TRUE(base) << error;
    overrides.push_back(field + '=' + other->second);
    const std::optional<std::string> changed = run(overrides, error);
    if (changed) {
      EXPECT_NE(*changed, *base) << field << " has no effect";
    } else {
      const std::string name = field.substr(field.rfind('.') + 1);
      EXPECT_NE(error.find(name), std::string::npos) << field << ": " << error;
    }
  }
}

// On one host there is nothing to choose. On two of two ranks, NICs of 10 MB/s and nothing else in
// the way make a plan of two levels; where a message takes a second, exchanges at once are better.
TEST_F(EveryField, TheClusterDecidesBetweenHosts) {
  const std::string cluster = file_ + ".cluster";
  const auto chosen = [&](const std::string& bandwidth, const std::string& latency) {
    std::ofstream(cluster)
        << "device { peak_flops { fp32: 1e12 } gemm_fraction: 1 vector_flops: "
           "1e12 dram_bandwidth: 1e11 dram_fraction: 1 launch_seconds: 0 memory: "
           "\"1GiB\" }\nnode { devices: 2 link_bandwidth: 1e9 link_fraction: 1 "
           "link_latency: 0 nics: 1 nic_fraction: 1 nic_bandwidth: "
        << bandwidth << " nic_latency: " << latency << " }\n";
    const GivenConfig given = load_config(file_, {"communication.cluster=" + cluster});
    const config::Config config = effective(given.config, 4);
    const Plan plan = compile(Gpt2(gpt_spec(config)), compile_settings(config, Hosting{4, 2, 2}));
    std::map<std::string, int> algorithms;
    for (const Step& step : plan.program("last_micro").steps) {
      if (step.op == Op::kReduceScatter) ++algorithms[std::string(name_of(step.algorithm))];
    }
    EXPECT_EQ(algorithms.size(), 1u);
    return algorithms.empty() ? "" : algorithms.begin()->first;
  };
  EXPECT_EQ(chosen("1e7", "0"), "two_level");
  EXPECT_EQ(chosen("1e12", "1"), "pairwise");
  std::filesystem::remove(cluster);
}

TEST_F(EveryField, IsStillInTheSchema) {
  const std::vector<std::string> fields = all_fields();
  for (const auto& [field, value] : other_values()) {
    EXPECT_NE(std::find(fields.begin(), fields.end(), field), fields.end()) << field;
  }
}

}  // namespace
}  // namespace memwall
