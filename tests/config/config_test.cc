// Reading, overriding, completing, printing and resuming a configuration.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "runtime/config/units.h"
#include "tests/config/config_fixture.h"

namespace memwall {
namespace {

// What protobuf's parser or ours refuses: the text put in the place of a line, and the error.
struct BadText {
  const char* from;
  const char* to;
  const char* error;
};

TEST_F(ConfigTest, NamesFileLineFieldAndWhatIsAllowed) {
  const BadText cases[] = {
      {"hidden_size: 64", "hiden_size: 64",
       "tiny.textproto:3: model.hiden_size: no such field (allowed: family, num_layers, "
       "hidden_size, num_heads, context_length, vocab_size, dropout, init_seed, init_from)"},
      {"data {", "dta {",
       "tiny.textproto:8: dta: no such field (allowed: model, data, optimizer, schedule, "
       "precision, parallel, communication, activation_checkpointing, memory, run)"},
      {"num_layers: 2", "num_layers: \"two\"",
       "tiny.textproto:2: model.num_layers: expected integer, got: \"two\" (allowed: an integer)"},
      {"num_layers: 2", "num_layers: 2.5",
       "tiny.textproto:2: model.num_layers: expected integer, got: 2.5 (allowed: an integer)"},
      {"num_layers: 2", "num_layers 2",
       "tiny.textproto:2: model.num_layers: expected \":\", found \"2\" (allowed: an integer)"},
      {"text: \"tiny.txt\"", "text: tiny",
       "tiny.textproto:9: data.text: expected string, got: tiny (allowed: text)"},
      {"micro_batch_size: 2", "sampling: SORTED\n  micro_batch_size: 2",
       "tiny.textproto:10: data.sampling: unknown enumeration value of \"SORTED\" for field "
       "\"sampling\" (allowed: SHUFFLED, RANDOM_OFFSET, SEQUENTIAL)"},
      {"micro_batch_size: 2", "sampling: 7",
       "tiny.textproto:10: data.sampling: no such value: 7 (allowed: SHUFFLED, RANDOM_OFFSET, "
       "SEQUENTIAL)"},
      {"num_heads: 4", "num_layers: 4", "tiny.textproto:4: model.num_layers: given more than once"},
      {"data {", "data: 3\nx {",
       "tiny.textproto:8: data: expected \"{\", found \"3\" (allowed: text, tokens, "
       "validation_tokens, tokenizer, validation_fraction, seq_length, micro_batch_size, "
       "global_batch_size, sampling)"},
      {"num_layers: 2", "num_layers:\n}",
       "tiny.textproto:3: model.num_layers: expected integer, got: } (allowed: an integer)"},
      {"micro_batch_size: 2\n}", "micro_batch_size: 2;;\n}",
       "tiny.textproto:10: data: expected a field, got: ; (allowed: text, tokens, "
       "validation_tokens, tokenizer, validation_fraction, seq_length, micro_batch_size, "
       "global_batch_size, sampling)"},
      {"run { steps: 10 }", "memory { budget: \"1GB\"",
       "tiny.textproto:12: memory: expected a field, got the end of the file (allowed: budget)"},
      {"run { steps: 10 }", "memory { budget:",
       "tiny.textproto:12: memory.budget: expected string, got the end of the file (allowed: "
       "text)"},
      {"run { steps: 10 }", "memory { budget: \"1GB\" } }",
       "tiny.textproto:12: expected a field, got: } (allowed: model, data, optimizer, schedule, "
       "precision, parallel, communication, activation_checkpointing, memory, run)"},
      {"run { steps: 10 }", "memory { budget: \"1GB }",
       "tiny.textproto:12: memory.budget: string literals cannot cross line boundaries (allowed: "
       "text)"},
      {"num_heads: 4", "num_heads: 99999999999999999999",
       "tiny.textproto:4: model.num_heads: integer out of range (99999999999999999999) (allowed: "
       "an integer)"},
      {"run { steps: 10 }", "optimizer { adahessian { probe: 1 } }",
       "tiny.textproto:12: optimizer.adahessian.probe: no such field (allowed: hessian_power, "
       "block_size, update_every, probes)"},
  };
  for (const BadText& bad : cases) EXPECT_EQ(error_of(tiny(bad.from, bad.to)), bad.error);
}

TEST_F(ConfigTest, RefusesAFileItCannotRead) {
  EXPECT_EQ(message_of([] { load_config("/nowhere/a.textproto"); }),
            "/nowhere/a.textproto: cannot read the configuration (name a file, as "
            "configs/*.textproto)");
  EXPECT_NE(message_of([] { load_config("/tmp"); }), "");
}

TEST_F(ConfigTest, RefusesBadOverrides) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.num_layers=x", "\"x\" is not an integer (allowed: an integer)"},
      {"model.num_layers=3 ", "\"3 \" is not an integer (allowed: an integer)"},
      {"model.init_seed=-1",
       "\"-1\" is not an integer of at least 0 (allowed: an integer of at least 0)"},
      {"model.layers=3",
       "no such field (allowed: family, num_layers, hidden_size, num_heads, context_length, "
       "vocab_size, dropout, init_seed, init_from)"},
      {"memory.budget.x=3", "no such field (allowed: budget)"},
      {"optimizer.kind=0", "no such value (allowed: ADAMW, SGD, ADAHESSIAN)"},
      {"run.device", "no value (allowed: FIELD=VALUE)"},
      {"memory=1GiB", "not a single value: set memory.FIELD (allowed: budget)"},
  };
  for (const auto& [argument, reason] : cases) {
    EXPECT_EQ(error_of_set({argument}), fmt::format("--set {}: {}", argument, reason));
  }
}

TEST_F(ConfigTest, AnEmptyOverrideTakesTheFieldOut) {
  const auto given = load(kTiny, {"optimizer.eps=1e-3", "optimizer.eps="});
  EXPECT_FALSE(given.config.optimizer().has_eps());
  EXPECT_NE(error_of_set({"model.num_layers="}), "");
}

TEST_F(ConfigTest, OverridesAreLiteral) {
  const auto given =
      load(tiny(), {"data.text=a=b \"c\"", "optimizer.learning_rate=1e-3", "parallel.zero_stage=3",
                    "schedule.kind=COSINE", "model.num_layers=6", "model.num_layers=7"});
  EXPECT_EQ(given.config.data().text(), "a=b \"c\"");
  EXPECT_EQ(given.config.optimizer().learning_rate(), 1e-3);
  EXPECT_EQ(given.config.parallel().zero_stage(), 3);
  EXPECT_EQ(given.config.schedule().kind(), config::Schedule::COSINE);
  EXPECT_EQ(given.config.model().num_layers(), 7);
  EXPECT_EQ(given.at("model.num_layers"), "--set model.num_layers=7");
}

TEST_F(ConfigTest, RepeatedOverridesReplaceTheFileThenAppend) {
  const std::string text =
      tiny("text: \"tiny.txt\"", "tokens: \"a\"  tokens: \"b\"  validation_tokens: \"v\"");
  const auto given = load(text, {"data.tokens=c", "data.tokens=d"});
  ASSERT_EQ(given.config.data().tokens_size(), 2);
  EXPECT_EQ(given.config.data().tokens(0), "c");
  EXPECT_EQ(given.config.data().tokens(1), "d");
  EXPECT_EQ(given.config.data().validation_tokens(0), "v");
}

TEST_F(ConfigTest, TextAndTokenFilesTakeEachOthersPlace) {
  const std::string tokens = tiny("text: \"tiny.txt\"", "tokens: \"a\"  validation_tokens: \"v\"");
  const auto with_text = load(tokens, {"data.text=t"}).config.data();
  EXPECT_EQ(with_text.tokens_size(), 0);
  EXPECT_EQ(with_text.validation_tokens_size(), 0);
  EXPECT_EQ(error_of(tokens, {"data.text=t"}), "");

  EXPECT_FALSE(load(kTiny, {"data.tokens=t"}).config.data().has_text());
  EXPECT_FALSE(load(kTiny, {"data.validation_tokens=t"}).config.data().has_text());
  EXPECT_EQ(error_of_set({"data.text=t", "data.tokens=u"}),
            "--set data.tokens=u: given beside data.text (allowed: one of data.text and "
            "data.tokens)");
}

TEST_F(ConfigTest, FillsInDefaults) {
  const config::Config c = effective(load(kTiny).config, 3);
  EXPECT_EQ(c.model().family(), config::Model::GPT2);
  EXPECT_EQ(c.model().init_seed(), 1u);
  EXPECT_EQ(c.data().tokenizer(), "bytes");
  EXPECT_EQ(c.data().validation_fraction(), 0.1);
  EXPECT_EQ(c.data().seq_length(), 128);
  EXPECT_EQ(c.data().global_batch_size(), 6);
  EXPECT_EQ(c.data().sampling(), config::Data::SHUFFLED);
  EXPECT_EQ(c.optimizer().learning_rate(), 3e-4);
  EXPECT_EQ(c.optimizer().beta1(), 0.9);
  EXPECT_EQ(c.optimizer().beta2(), 0.95);
  EXPECT_EQ(c.optimizer().eps(), 1e-8);
  EXPECT_EQ(c.optimizer().weight_decay(), 0.1);
  EXPECT_EQ(c.optimizer().grad_clip(), 1.0);
  EXPECT_FALSE(c.schedule().has_decay_steps());
  EXPECT_FALSE(c.precision().has_initial_loss_scale());
  EXPECT_EQ(c.communication().timeout_seconds(), 600.0);
  EXPECT_FALSE(c.has_memory());
  EXPECT_EQ(c.run().name(), "run");
  EXPECT_EQ(c.run().seed(), 1u);
  EXPECT_EQ(c.run().log_every(), 10);
  EXPECT_EQ(c.run().keep_checkpoints(), 2);

  const config::Config cosine = effective(load(kTiny, {"schedule.kind=COSINE"}).config, 1);
  EXPECT_EQ(cosine.schedule().decay_steps(), 10);
  EXPECT_TRUE(cosine.schedule().has_min_learning_rate());
}

// Those of Yao et al.'s optimizer, where ADAMW has others.
TEST_F(ConfigTest, AdaHessianHasDefaultsOfItsOwn) {
  const config::Config whole = effective(load(kTiny, {"optimizer.kind=ADAHESSIAN"}).config, 1);
  const config::Optimizer& c = whole.optimizer();
  EXPECT_EQ(c.learning_rate(), 0.15);
  EXPECT_EQ(c.beta1(), 0.9);
  EXPECT_EQ(c.beta2(), 0.999);
  EXPECT_EQ(c.eps(), 1e-4);
  EXPECT_EQ(c.weight_decay(), 0.0);
  EXPECT_EQ(c.grad_clip(), 1.0);
  EXPECT_FALSE(c.has_momentum());
  EXPECT_EQ(c.adahessian().hessian_power(), 1.0);
  EXPECT_EQ(c.adahessian().block_size(), 32);
  EXPECT_EQ(c.adahessian().update_every(), 1);
  EXPECT_EQ(c.adahessian().probes(), 1);
  EXPECT_FALSE(effective(load(kTiny).config, 1).optimizer().has_adahessian());

  const config::Config set =
      effective(load(kTiny, {"optimizer.kind=ADAHESSIAN", "optimizer.adahessian.block_size=-1",
                             "optimizer.beta2=0.98", "optimizer.weight_decay=0.1"})
                    .config,
                1);
  EXPECT_EQ(set.optimizer().adahessian().block_size(), -1);
  EXPECT_EQ(set.optimizer().beta2(), 0.98);
  EXPECT_EQ(set.optimizer().weight_decay(), 0.1);
}

TEST_F(ConfigTest, AnExplicitZeroIsZero) {
  const config::Config c = effective(
      load(kTiny, {"optimizer.grad_clip=0", "optimizer.weight_decay=0", "optimizer.beta1=0",
                   "optimizer.learning_rate=0", "run.seed=0", "data.validation_fraction=0"})
          .config,
      1);
  EXPECT_EQ(c.optimizer().grad_clip(), 0.0);
  EXPECT_EQ(c.optimizer().weight_decay(), 0.0);
  EXPECT_EQ(c.optimizer().beta1(), 0.0);
  EXPECT_EQ(c.optimizer().learning_rate(), 0.0);
  EXPECT_EQ(c.run().seed(), 0u);
  EXPECT_EQ(c.data().validation_fraction(), 0.0);
}

TEST_F(ConfigTest, ACompletedConfigurationReadsBackAndIsComplete) {
  for (const char* kind :
       {"schedule.kind=CONSTANT", "schedule.kind=COSINE", "optimizer.kind=ADAHESSIAN"}) {
    const auto given = load(
        kTiny, {kind, "optimizer.eps=1e-7", "optimizer.learning_rate=0.1", "data.text=d\"ü\n.txt"});
    const config::Config whole = effective(given.config, 2);
    const GivenConfig again = load(to_text(whole));
    EXPECT_EQ(to_text(again.config), to_text(whole));
    EXPECT_EQ(again.config.data().text(), "d\"ü\n.txt");
    EXPECT_EQ(to_text(effective(again.config, 2)), to_text(whole));
    EXPECT_NO_THROW(validate(again, 2, Purpose::kTrain));
  }
}

TEST_F(ConfigTest, PathsBecomeAbsolute) {
  config::Config c = load(kTiny, {"data.text=x/../y.txt", "model.init_from=w"}).config;
  resolve_paths(c);
  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(c.data().text(), here + "/y.txt");
  EXPECT_EQ(c.model().init_from(), here + "/w");
  const std::string once = to_text(c);
  resolve_paths(c);
  EXPECT_EQ(to_text(c), once);
  c.mutable_data()->set_tokenizer("bytes");
  resolve_paths(c);
  EXPECT_EQ(c.data().tokenizer(), "bytes");
}

TEST_F(ConfigTest, ResumesWithMoreStepsAndTheStoredDecay) {
  const auto first = load(kTiny, {"schedule.kind=COSINE"});
  config::Config stored = effective(first.config, 2);
  resolve_paths(stored);
  const auto now = load(kTiny, {"schedule.kind=COSINE", "run.steps=20", "run.log_every=1",
                                "run.eval_every=5", "run.save_every=6", "run.keep_checkpoints=1",
                                "run.time_limit=1h", "run.trace_steps=20"});
  const config::Config c = resumed(stored, now, 2);
  EXPECT_EQ(c.run().steps(), 20);
  EXPECT_EQ(c.schedule().decay_steps(), 10);
  EXPECT_EQ(c.data().text(), stored.data().text());
}

TEST_F(ConfigTest, ResumeRefusesEveryOtherChangeByName) {
  config::Config stored = effective(load(kTiny).config, 2);
  resolve_paths(stored);
  const auto refusal = [&](const std::string& change) {
    return message_of([&] { resumed(stored, load(kTiny, {change}), 2); });
  };
  EXPECT_EQ(
      refusal("optimizer.beta1=0.5"),
      "--set optimizer.beta1=0.5: is 0.5, but the run was started with 0.9 (allowed: 0.9; "
      "what may change on resume: run.steps, run.log_every, run.eval_every, "
      "run.save_every, run.keep_checkpoints, run.time_limit, run.trace_steps, run.cuda_graphs)");
  for (const char* change : {"model.num_layers=3", "data.text=other", "run.seed=2",
                             "parallel.zero_stage=1", "memory.budget=1GB"}) {
    EXPECT_EQ(refusal(change).find(std::string("--set ") + change), 0u) << refusal(change);
  }
  EXPECT_EQ(message_of([&] {
              resumed(stored, load(tiny("num_heads: 4", "num_heads: 8")), 2);
            }).find("tiny.textproto:4: model.num_heads: is 8, but the run was started with 4"),
            0u);
  // Another rank count changes the global batch of this configuration.
  EXPECT_NE(message_of([&] { resumed(stored, load(kTiny), 4); }).find("data.global_batch_size"),
            std::string::npos);
}

TEST_F(ConfigTest, ListsEveryField) {
  const std::vector<std::string> fields = all_fields();
  EXPECT_EQ(fields.size(), 66u);
  EXPECT_EQ(fields.front(), "model.family");
  EXPECT_EQ(std::count(fields.begin(), fields.end(), "optimizer.adahessian.probes"), 1);
}

TEST(Units, Sizes) {
  EXPECT_EQ(parse_bytes("512MiB"), 512LL << 20);
  EXPECT_EQ(parse_bytes("1.5 GB"), 1500000000);
  EXPECT_EQ(parse_bytes("7B"), 7);
  EXPECT_EQ(parse_bytes("2KB"), 2000);
  EXPECT_EQ(parse_bytes("2KiB"), 2048);
  EXPECT_EQ(parse_bytes("3MB"), 3000000);
  EXPECT_EQ(parse_bytes("3GiB"), 3LL << 30);
  EXPECT_EQ(parse_bytes("1TB"), 1000000000000);
  EXPECT_EQ(parse_bytes("1TiB"), 1LL << 40);
  for (const char* bad : {"", "512", "MiB", "1 mib", "-1GB", "0B", "1e3B", "inf B", "99999999TiB",
                          "1GB ", "1  GB", "0.1B"}) {
    EXPECT_THROW(parse_bytes(bad), InputError) << bad;
  }
}

TEST(Units, Durations) {
  EXPECT_EQ(parse_duration_seconds("3h50m"), 13800.0);
  EXPECT_EQ(parse_duration_seconds("90s"), 90.0);
  EXPECT_EQ(parse_duration_seconds("1d12h1m1s"), 129661.0);
  for (const char* bad :
       {"", "90", "50m3h", "1h1h", "h", "1.5h", "-1h", "0s", "1h ", "1x", "1h5"}) {
    EXPECT_THROW(parse_duration_seconds(bad), InputError) << bad;
  }
}

}  // namespace
}  // namespace memwall
