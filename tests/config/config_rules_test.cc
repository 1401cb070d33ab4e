// What a configuration that reads well may still not say.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tests/config/config_fixture.h"

namespace memwall {
namespace {

struct BadSet {
  std::vector<std::string> overrides;  // the first is at fault
  const char* error;                   // after "--set FIRST: "
};

class Rules : public ConfigTest {
 protected:
  void expect_refused(const std::vector<BadSet>& cases) {
    for (const BadSet& bad : cases) {
      EXPECT_EQ(error_of_set(bad.overrides),
                fmt::format("--set {}: {}", bad.overrides[0], bad.error));
    }
  }
};

TEST_F(Rules, AcceptATinyRun) {
  EXPECT_EQ(error_of(kTiny), "");
  EXPECT_EQ(error_of(kTiny, {}, 1, Purpose::kPlan), "");
}

// Only the byte tokenizer's vocabulary is known before a file is opened.
TEST_F(Rules, AnotherTokenizerMayHaveASmallerVocabulary) {
  EXPECT_EQ(error_of_set({"data.tokenizer=gpt2/", "model.vocab_size=65"}), "");
}

TEST_F(Rules, NameTheLineOfAnImpossibleValue) {
  const std::pair<std::pair<const char*, const char*>, const char*> cases[] = {
      {{"num_layers: 2", "num_layers: 0"},
       "tiny.textproto:2: model.num_layers: 0 is out of range (allowed: at least 1, at most 2048)"},
      {{"num_layers: 2", "num_layers: 100000000"},
       "tiny.textproto:2: model.num_layers: 100000000 is out of range (allowed: at least 1, at "
       "most "
       "2048)"},
      {{"hidden_size: 64", "hidden_size: 66"},
       "tiny.textproto:3: model.hidden_size: 66 is not divisible by num_heads 4 (allowed: 64 or "
       "68)"},
      {{"vocab_size: 256", "vocab_size: 65"},
       "tiny.textproto:6: model.vocab_size: 65 is smaller than the byte tokenizer's (allowed: at "
       "least 256)"},
      {{"micro_batch_size: 2", "micro_batch_size: 2\n  global_batch_size: 9"},
       "tiny.textproto:11: data.global_batch_size: 9 is not a multiple of micro_batch_size 2 x 2 "
       "ranks = 4 (allowed: 8 or 12)"},
      {{"micro_batch_size: 2", "micro_batch_size: 2\n  seq_length: 129"},
       "tiny.textproto:11: data.seq_length: 129 is longer than model.context_length (allowed: at "
       "most 128)"},
      {{"text: \"tiny.txt\"", "text: \"\""},
       "tiny.textproto:9: data.text: is empty (allowed: a path, or leave it out)"},
      {{"text: \"tiny.txt\"", "text: \"tiny.txt\"\n  tokenizer: \"\""},
       "tiny.textproto:10: data.tokenizer: is empty (allowed: a path, or leave it out)"},
      {{"text: \"tiny.txt\"", "tokens: \"\""},
       "tiny.textproto:9: data.tokens: is empty (allowed: a path, or leave it out)"},
      {{"text: \"tiny.txt\"", "text: \"tiny.txt\"\n  tokens: \"t\""},
       "tiny.textproto:10: data.tokens: given beside data.text (allowed: one of data.text and "
       "data.tokens)"},
      {{"run {", "optimizer {\n  learning_rate: -1\n}\nrun {"},
       "tiny.textproto:13: optimizer.learning_rate: -1 is out of range (allowed: at least 0)"},
  };
  for (const auto& [change, error] : cases) {
    EXPECT_EQ(error_of(tiny(change.first, change.second)), error);
  }
}

TEST_F(Rules, NameAMissingFieldAtItsMessage) {
  const std::pair<const char*, const char*> cases[] = {
      {"num_layers: 2", "tiny.textproto:1: model.num_layers: is missing (allowed: an integer)"},
      {"hidden_size: 64", "tiny.textproto:1: model.hidden_size: is missing (allowed: an integer)"},
      {"num_heads: 4", "tiny.textproto:1: model.num_heads: is missing (allowed: an integer)"},
      {"context_length: 128",
       "tiny.textproto:1: model.context_length: is missing (allowed: an integer)"},
      {"vocab_size: 256", "tiny.textproto:1: model.vocab_size: is missing (allowed: an integer)"},
      {"micro_batch_size: 2",
       "tiny.textproto:8: data.micro_batch_size: is missing (allowed: an integer)"},
      {"steps: 10", "tiny.textproto:12: run.steps: is missing (allowed: an integer)"},
      {"text: \"tiny.txt\"",
       "tiny.textproto:8: data.text: is missing, and so is data.tokens (allowed: one of data.text "
       "and data.tokens)"},
  };
  for (const auto& [line, error] : cases) EXPECT_EQ(error_of(tiny(line)), error);
  EXPECT_EQ(error_of(tiny("run { steps: 10 }")),
            "tiny.textproto:1: run.steps: is missing (allowed: an integer)");
  EXPECT_EQ(error_of(tiny("steps: 10"), {}, 1, Purpose::kPlan), "");
  EXPECT_EQ(error_of(tiny("text: \"tiny.txt\""), {}, 1, Purpose::kPlan), "");
}

TEST_F(Rules, RefuseValuesOutOfRange) {
  expect_refused({
      {{"model.dropout=1"}, "1 is out of range (allowed: at least 0, below 1)"},
      {{"optimizer.beta1=1"}, "1 is out of range (allowed: at least 0, below 1)"},
      {{"optimizer.beta2=-0.5"}, "-0.5 is out of range (allowed: at least 0, below 1)"},
      {{"optimizer.eps=0"}, "0 is out of range (allowed: above 0)"},
      {{"optimizer.grad_clip=nan"}, "nan is out of range (allowed: at least 0)"},
      {{"optimizer.weight_decay=inf"}, "inf is out of range (allowed: at least 0)"},
      {{"data.validation_fraction=1"}, "1 is out of range (allowed: at least 0, below 1)"},
      {{"data.micro_batch_size=0"}, "0 is out of range (allowed: at least 1, at most 2147483647)"},
      {{"parallel.zero_stage=4"}, "4 is out of range (allowed: at least 0, at most 3)"},
      {{"communication.timeout_seconds=0"}, "0 is out of range (allowed: above 0)"},
      {{"run.keep_checkpoints=0"}, "0 is out of range (allowed: at least 1, at most 2147483647)"},
      {{"run.save_every=-1"}, "-1 is out of range (allowed: at least 0, at most 2147483647)"},
      {{"data.global_batch_size=0"},
       "0 is not a multiple of micro_batch_size 2 x 2 ranks = 4 (allowed: 4)"},
      {{"schedule.min_learning_rate=1", "schedule.kind=COSINE"},
       "1 is above optimizer.learning_rate (allowed: at most 0.0003)"},
      {{"memory.budget=512"},
       "\"512\" is not a size (allowed: a number and B, KB, KiB, MB, MiB, GB, GiB, TB or TiB, as "
       "\"512MiB\")"},
      {{"run.time_limit=2 hours"},
       "\"2 hours\" is not a duration (allowed: whole numbers of d, h, m and s in that order, as "
       "\"3h50m\")"},
      {{"run.name=a/b"},
       "\"a/b\" cannot begin a folder's name (allowed: letters, digits, '-', '_' and '.', not '.' "
       "first)"},
  });
}

TEST_F(Rules, RefuseLengthsThatDoNotCutIntoBlocks) {
  expect_refused({
      {{"model.context_length=514"},
       "514 rows cannot be cut into equal blocks of 32 to 256 (allowed: multiples of 64, as 512 "
       "and 576)"},
      {{"data.seq_length=257", "model.context_length=512"},
       "257 rows cannot be cut into equal blocks of 32 to 256 (allowed: multiples of 64, as 256 "
       "and 320)"},
  });
  for (const char* length :
       {"model.context_length=251", "model.context_length=1000", "model.context_length=1024"}) {
    EXPECT_EQ(error_of_set({length}), "");
  }
}

TEST_F(Rules, RefuseTransportsOfTheOtherDevice) {
  const auto error_with = [&](const std::string& transport, const std::string& device) {
    return error_of_set({"communication.transport=" + transport, "run.device=" + device});
  };
  const auto refused = [](const std::string& transport, const std::string& device,
                          const std::string& allowed) {
    return fmt::format(
        "--set communication.transport={0}: {0} is not with run.device {1} "
        "(allowed: {2})",
        transport, device, allowed);
  };
  for (const char* transport : {"NCCL", "STAGED"}) {
    EXPECT_EQ(error_with(transport, "CPU"), refused(transport, "CPU", "AUTO, MPI, SHARED_MEMORY"));
    EXPECT_EQ(error_with(transport, "CUDA"), "");
  }
  for (const char* transport : {"MPI", "SHARED_MEMORY"}) {
    EXPECT_EQ(error_with(transport, "CUDA"), refused(transport, "CUDA", "AUTO, NCCL, STAGED"));
    EXPECT_EQ(error_with(transport, "CPU"), "");
  }
}

TEST_F(Rules, RefuseTf32WhereNoProductCouldUseIt) {
  EXPECT_EQ(error_of_set({"precision.tf32=true", "run.device=CUDA"}), "");
  for (const std::vector<std::string>& others : {std::vector<std::string>{},
                                                 {"run.device=CPU"},
                                                 {"run.device=CUDA", "precision.mode=BF16"}}) {
    std::vector<std::string> overrides = {"precision.tf32=true"};
    overrides.insert(overrides.end(), others.begin(), others.end());
    EXPECT_EQ(
        error_of_set(overrides),
        "--set precision.tf32=true: has no effect but with precision.mode FP32 and run.device "
        "CUDA (allowed: leave it out)");
  }
}

TEST_F(Rules, RefuseFusedAttentionWhereThereIsNone) {
  const auto error_with = [this](std::vector<std::string> overrides) {
    overrides.insert(overrides.begin(), "run.fused_attention=false");
    return error_of_set(overrides);
  };
  EXPECT_EQ(error_with({"precision.mode=BF16", "model.dropout=0"}), "");
  EXPECT_EQ(error_with({"precision.mode=FP16", "model.dropout=0", "run.device=CUDA"}), "");
  for (const std::vector<std::string>& others :
       {std::vector<std::string>{"model.dropout=0"},
        {"precision.mode=BF16", "model.dropout=0.1"},
        {"precision.mode=BF16", "model.dropout=0", "run.device=CPU"}}) {
    EXPECT_EQ(error_with(others),
              "--set run.fused_attention=false: has no effect but on a GPU, in FP16 or BF16 and "
              "with model.dropout 0 (allowed: leave it out)");
  }
}

TEST_F(Rules, RefuseEpiloguesWhereThereAreNone) {
  const std::string asked = "run.product_epilogues=false";
  EXPECT_EQ(error_of_set({asked, "run.device=CUDA", "precision.mode=BF16"}), "");
  for (const std::vector<std::string>& others : {std::vector<std::string>{},
                                                 {"run.device=CPU"},
                                                 {"run.device=CUDA", "precision.mode=FP64"}}) {
    std::vector<std::string> overrides = {asked};
    overrides.insert(overrides.end(), others.begin(), others.end());
    EXPECT_EQ(error_of_set(overrides),
              "--set run.product_epilogues=false: has no effect but with run.device CUDA and a "
              "precision.mode other than FP64 (allowed: leave it out)");
  }
}

TEST_F(Rules, RefuseSymmetricWindowsWithoutGpus) {
  const std::string asked = "communication.symmetric_windows=true";
  EXPECT_EQ(error_of_set({asked, "run.device=CUDA"}), "");
  for (const std::string& device : {std::string("CPU"), std::string("AUTO")}) {
    EXPECT_EQ(error_of_set({asked, "run.device=" + device}),
              "--set communication.symmetric_windows=true: has no effect but with run.device CUDA "
              "(allowed: leave it out)");
  }
}

TEST_F(Rules, RefuseCudaGraphsWithoutCuda) {
  EXPECT_EQ(error_of_set({"run.cuda_graphs=true", "run.device=CUDA"}), "");
  for (const char* device : {"AUTO", "CPU"}) {
    EXPECT_EQ(
        error_of_set({"run.cuda_graphs=true", std::string("run.device=") + device}),
        "--set run.cuda_graphs=true: has no effect but with run.device CUDA (allowed: leave it "
        "out)");
  }
}

TEST_F(Rules, RefuseStepsThatCannotBeTraced) {
  constexpr const char* kAllowed =
      " names no steps (allowed: a step or the first and the last one, as \"10-12\")";
  for (const std::string text : {"x", "0", "0-3", "4-2", "2-", "-2", "1-2-3", "1,2", " 2", "2 ",
                                 "1.5", "1 - 2", "99999999999999999999"}) {
    const std::string set = "run.trace_steps=" + text;
    EXPECT_EQ(error_of_set({set}), fmt::format("--set {}: \"{}\"{}", set, text, kAllowed));
  }
  expect_refused({
      {{"run.trace_steps=11"}, "step 11 is beyond run.steps = 10 (allowed: 1 to 10)"},
      {{"run.trace_steps=8-12", "run.steps=10"},
       "step 12 is beyond run.steps = 10 (allowed: 1 to 10)"},
  });
  for (const char* text : {"1", "10", "1-10", "3-3"}) {
    EXPECT_EQ(error_of_set({std::string("run.trace_steps=") + text}), "");
  }
}

TEST_F(Rules, RefuseCurvatureThatCannotBe) {
  constexpr const char* kKind = "optimizer.kind=ADAHESSIAN";
  constexpr const char* kPower = "0 is out of range (allowed: above 0, at most 1)";
  constexpr const char* kCount = "0 is out of range (allowed: at least 1, at most 2147483647)";
  expect_refused({
      {{"optimizer.adahessian.probes=0", kKind}, kCount},
      {{"optimizer.adahessian.update_every=0", kKind}, kCount},
      {{"optimizer.adahessian.hessian_power=0", kKind}, kPower},
      {{"optimizer.adahessian.hessian_power=1.5", kKind},
       "1.5 is out of range (allowed: above 0, at most 1)"},
      {{"optimizer.adahessian.hessian_power=nan", kKind},
       "nan is out of range (allowed: above 0, at most 1)"},
      {{"optimizer.adahessian.block_size=0", kKind},
       "0 is no number of elements to average (allowed: -1 for whole rows, or 1 to 65536)"},
      {{"optimizer.adahessian.block_size=-2", kKind},
       "-2 is no number of elements to average (allowed: -1 for whole rows, or 1 to 65536)"},
      {{"optimizer.adahessian.block_size=65537", kKind},
       "65537 is no number of elements to average (allowed: -1 for whole rows, or 1 to 65536)"},
      // 2^32 - 1 draws, the first being draw 1.
      {{"optimizer.adahessian.probes=4295", kKind, "run.steps=1000000"},
       "4295 in each of 1000000 steps are more random vectors than there are (allowed: at most "
       "4294)"},
  });
  for (const char* good :
       {"optimizer.adahessian.block_size=-1", "optimizer.adahessian.block_size=1",
        "optimizer.adahessian.block_size=65536", "optimizer.adahessian.hessian_power=1",
        "optimizer.adahessian.hessian_power=0.01", "optimizer.adahessian.probes=100",
        "optimizer.adahessian.update_every=1000000"}) {
    EXPECT_EQ(error_of_set({good, kKind}), "") << good;
    EXPECT_EQ(error_of_set({good, kKind}, 1024, Purpose::kPlan), "") << good;
  }
}

TEST_F(Rules, EveryPrecisionIsPlannedAndTrained) {
  for (const char* mode : {"FP32", "FP16", "BF16", "FP64"}) {
    const std::string set = std::string("precision.mode=") + mode;
    EXPECT_EQ(error_of_set({set}, 1024, Purpose::kPlan), "");
    EXPECT_EQ(error_of_set({set}), "");
  }
  EXPECT_EQ(error_of_set({"precision.mode=FP16", "precision.backoff=0.25"}, 2, Purpose::kPlan), "");
}

TEST_F(Rules, RefuseAFieldWithoutEffect) {
  constexpr const char* kFp16 =
      "has no effect with a precision.mode other than FP16 (allowed: leave it out)";
  constexpr const char* kAdaHessianOnly =
      "has no effect with an optimizer.kind other than ADAHESSIAN (allowed: leave it out)";
  expect_refused({
      {{"schedule.min_learning_rate=0"},
       "has no effect with schedule.kind CONSTANT (allowed: leave it out)"},
      {{"schedule.decay_steps=5"},
       "has no effect with schedule.kind CONSTANT (allowed: leave it out)"},
      {{"precision.initial_loss_scale=1024"}, kFp16},
      {{"precision.initial_loss_scale=1024", "precision.mode=BF16"}, kFp16},
      {{"precision.growth_interval=10"}, kFp16},
      {{"precision.backoff=0.5"}, kFp16},
      {{"precision.hysteresis=2", "precision.mode=FP64"}, kFp16},
      {{"precision.min_loss_scale=1"}, kFp16},
      {{"optimizer.beta1=0.9", "optimizer.kind=SGD"},
       "has no effect with optimizer.kind SGD (allowed: leave it out)"},
      {{"optimizer.beta2=0.9", "optimizer.kind=SGD"},
       "has no effect with optimizer.kind SGD (allowed: leave it out)"},
      {{"optimizer.eps=1e-8", "optimizer.kind=SGD"},
       "has no effect with optimizer.kind SGD (allowed: leave it out)"},
      {{"optimizer.momentum=0.9"},
       "has no effect with an optimizer.kind other than SGD (allowed: leave it out)"},
      {{"optimizer.momentum=0.9", "optimizer.kind=ADAHESSIAN"},
       "has no effect with an optimizer.kind other than SGD (allowed: leave it out)"},
      {{"optimizer.adahessian.hessian_power=1"}, kAdaHessianOnly},
      {{"optimizer.adahessian.block_size=32", "optimizer.kind=SGD"}, kAdaHessianOnly},
      {{"optimizer.adahessian.update_every=1", "optimizer.kind=ADAMW"}, kAdaHessianOnly},
      {{"optimizer.adahessian.probes=1"}, kAdaHessianOnly},
      {{"schedule.decay_steps=9", "schedule.kind=INVERSE_SQRT"},
       "has no effect with schedule.kind INVERSE_SQRT (allowed: leave it out)"},
      {{"activation_checkpointing.keep=*/attn/attention"},
       "has no effect with an activation_checkpointing.policy other than SELECTIVE (allowed: leave "
       "it out)"},
      {{"activation_checkpointing.preset=x", "activation_checkpointing.policy=BLOCK"},
       "has no effect with an activation_checkpointing.policy other than SELECTIVE (allowed: leave "
       "it out)"},
      {{"data.validation_fraction=0.1", "data.tokens=t", "data.validation_tokens=v"},
       "has no effect with data.validation_tokens (allowed: leave it out)"},
      {{"data.validation_tokens=v", "data.text=t"},
       "has no effect with data.text (allowed: leave it out)"},
      {{"run.eval_every=5", "data.validation_fraction=0"},
       "has no effect with data.validation_fraction 0 (allowed: leave it out)"},
      {{"model.init_seed=4", "model.init_from=gpt2"},
       "has no effect with model.init_from (allowed: leave it out)"},
  });
  EXPECT_EQ(error_of_set({"run.eval_every=0", "data.validation_fraction=0"}), "");
}

TEST_F(Rules, SayAtMostFiveLines) {
  const std::string error = error_of("");
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 4);
  EXPECT_EQ(error.find("tiny.textproto:1: model.num_layers: is missing"), 0u);
}

TEST_F(Rules, EveryPresetTrainsAndPlans) {
  const std::string folder = std::string(MEMWALL_SOURCE_DIR) + "/configs/";
  const std::pair<const char*, int> presets[] = {
      {"quickstart", 8},  {"adahessian", 8}, {"gpt2-small", 8}, {"gpt2-small-adahessian", 8},
      {"gpt2-medium", 8}, {"gpt2-large", 8}, {"gpt2-xl", 8},    {"nanogpt-shakespeare", 2}};
  for (const auto& [name, most_ranks] : presets) {
    const GivenConfig given = load_config(folder + name + ".textproto");
    EXPECT_EQ(given.config.run().name(), name);
    for (int ranks = 1; ranks <= most_ranks; ranks *= 2) {
      EXPECT_NO_THROW(validate(given, ranks, Purpose::kTrain)) << name << " on " << ranks;
      EXPECT_NO_THROW(validate(given, ranks, Purpose::kPlan)) << name << " on " << ranks;
    }
    const config::Config whole = effective(given.config, 2);
    EXPECT_GE(whole.data().global_batch_size(), 2);
  }
}

// 12 matrices of width^2 a layer and 13 vectors of width, embeddings, the last normalisation.
TEST_F(Rules, Gpt2PresetsHaveTheirPublishedSizes) {
  const std::pair<const char*, int64_t> presets[] = {{"gpt2-small", 124439808},
                                                     {"gpt2-small-adahessian", 124439808},
                                                     {"gpt2-medium", 354823168},
                                                     {"gpt2-large", 774030080},
                                                     {"gpt2-xl", 1557611200}};
  for (const auto& [name, parameters] : presets) {
    const std::string path = fmt::format("{}/configs/{}.textproto", MEMWALL_SOURCE_DIR, name);
    const config::Model model = load_config(path).config.model();
    const int64_t width = model.hidden_size();
    EXPECT_EQ(model.num_layers() * (12 * width + 13) * width +
                  (model.vocab_size() + model.context_length() + 2) * width,
              parameters);
  }
}

}  // namespace
}  // namespace memwall
