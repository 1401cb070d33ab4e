#include "runtime/cli/settings.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "comm/self/self_communicator.h"
#include "runtime/base/error.h"

namespace memwall {
namespace {

config::Config parse(const std::string& text) {
  config::Config given;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &given));
  return given;
}

config::Config tiny() {
  return effective(parse(R"(
    model { num_layers: 3 hidden_size: 32 num_heads: 4 context_length: 64 vocab_size: 300
            dropout: 0.25 init_seed: 11 }
    data { text: "a.txt" seq_length: 48 micro_batch_size: 4 global_batch_size: 24
           sampling: RANDOM_OFFSET validation_fraction: 0.2 }
    optimizer { learning_rate: 0.5 beta1: 0.1 beta2: 0.2 eps: 0.3 weight_decay: 0.4 grad_clip: 2 }
    schedule { kind: COSINE warmup_steps: 5 min_learning_rate: 0.125 }
    parallel { zero_stage: 2 prefetch_depth: 3 }
    memory { budget: "2MiB" }
    run { steps: 40 seed: 9 log_every: 1 eval_every: 2 save_every: 3 keep_checkpoints: 4
          time_limit: "1h30m" })"),
                   2);
}

TEST(Settings, Model) {
  const GptSpec spec = gpt_spec(tiny());
  EXPECT_EQ(spec.layers, 3);
  EXPECT_EQ(spec.hidden, 32);
  EXPECT_EQ(spec.heads, 4);
  EXPECT_EQ(spec.context, 64);
  EXPECT_EQ(spec.vocabulary, 300);
  EXPECT_EQ(spec.batch, 4);
  EXPECT_EQ(spec.time, 48);
  EXPECT_EQ(spec.dropout, 0.25);
  EXPECT_EQ(spec.dropout_seed, 9);
  EXPECT_EQ(spec.dtype, DType::kF32);
}

TEST(Settings, EveryPrecisionHasItsType) {
  config::Config c = tiny();
  for (const auto& [mode, dtype] : {std::pair{config::Precision::FP32, DType::kF32},
                                    {config::Precision::FP16, DType::kF16},
                                    {config::Precision::BF16, DType::kBF16},
                                    {config::Precision::FP64, DType::kF64}}) {
    c.mutable_precision()->set_mode(mode);
    EXPECT_EQ(gpt_spec(c).dtype, dtype);
  }
}

TEST(Settings, Compile) {
  const CompileSettings s = compile_settings(tiny(), 2);
  EXPECT_EQ(s.ranks, 2);
  EXPECT_EQ(s.zero_stage, 2);
  EXPECT_EQ(s.micro_steps, 3);
  EXPECT_EQ(s.prefetch_depth, 3);
  EXPECT_EQ(s.init_seed, 11);
  EXPECT_EQ(std::get<AdamWSettings>(s.optimizer).beta1, 0.1);
  EXPECT_EQ(std::get<AdamWSettings>(s.optimizer).beta2, 0.2);
  EXPECT_EQ(std::get<AdamWSettings>(s.optimizer).epsilon, 0.3);
  EXPECT_EQ(std::get<AdamWSettings>(s.optimizer).weight_decay, 0.4);
  EXPECT_EQ(s.grad_clip, 2.0);
  EXPECT_TRUE(s.train && s.evaluate && !s.next_token);
}

TEST(Settings, AdaHessian) {
  config::Config whole = tiny();
  EXPECT_EQ(train_settings(whole, 2).curvature_every, 0);
  *whole.mutable_optimizer() =
      parse(R"(optimizer { kind: ADAHESSIAN beta1: 0.1 beta2: 0.2 eps: 0.3 weight_decay: 0.4
                           adahessian { hessian_power: 0.5 block_size: 48 update_every: 6
                                        probes: 7 } })")
          .optimizer();
  const auto s = std::get<AdaHessianSettings>(compile_settings(whole, 2).optimizer);
  EXPECT_EQ(s.beta1, 0.1);
  EXPECT_EQ(s.beta2, 0.2);
  EXPECT_EQ(s.epsilon, 0.3);
  EXPECT_EQ(s.weight_decay, 0.4);
  EXPECT_EQ(s.hessian_power, 0.5);
  EXPECT_EQ(s.averaging_block, 48);
  EXPECT_EQ(s.update_every, 6);
  EXPECT_EQ(s.probes, 7);
  EXPECT_EQ(train_settings(whole, 2).curvature_every, 6);

  whole.mutable_optimizer()->mutable_adahessian()->set_block_size(-1);
  const auto rows = std::get<AdaHessianSettings>(compile_settings(whole, 2).optimizer);
  EXPECT_EQ(rows.averaging_block, kWholeRows);
}

TEST(Settings, Sgd) {
  config::Config c = parse("optimizer { kind: SGD momentum: 0.9 weight_decay: 0.01 }");
  config::Config whole = tiny();
  *whole.mutable_optimizer() = c.optimizer();
  const auto sgd = std::get<SgdSettings>(compile_settings(whole, 2).optimizer);
  EXPECT_EQ(sgd.momentum, 0.9);
  EXPECT_EQ(sgd.weight_decay, 0.01);
}

// A plan made without a machine takes all ranks to be on one host.
TEST(Settings, Fabric) {
  config::Config c = tiny();
  EXPECT_EQ(compile_settings(c, 1).fabric.transport, Transport::kMpi);
  EXPECT_EQ(compile_settings(c, 2).fabric.transport, Transport::kSharedMemory);
  EXPECT_EQ(compile_settings(c, 1024).fabric.transport, Transport::kMpi);
  c.mutable_communication()->set_transport(config::Communication::MPI);
  EXPECT_EQ(compile_settings(c, 2).fabric.transport, Transport::kMpi);
  c.mutable_communication()->set_transport(config::Communication::SHARED_MEMORY);
  EXPECT_EQ(compile_settings(c, 1024).fabric.transport, Transport::kSharedMemory);
}

TEST(Settings, Train) {
  const TrainSettings s = train_settings(tiny(), 2);
  EXPECT_EQ(s.steps, 40);
  EXPECT_EQ(s.log_every, 1);
  EXPECT_EQ(s.eval_every, 2);
  EXPECT_EQ(s.save_every, 3);
  EXPECT_EQ(s.keep_checkpoints, 4);
  EXPECT_EQ(s.time_limit_seconds, 5400.0);
  EXPECT_EQ(s.seed, 9);
  EXPECT_EQ(s.sampling, Sampling::kRandomOffset);
  EXPECT_EQ(s.schedule.kind, ScheduleKind::kCosine);
  EXPECT_EQ(s.schedule.learning_rate, 0.5);
  EXPECT_EQ(s.schedule.min_learning_rate, 0.125);
  EXPECT_EQ(s.schedule.warmup_steps, 5);
  EXPECT_EQ(s.schedule.decay_steps, 40) << "the run's steps, where not given";
  EXPECT_EQ(s.global_batch, 24);
  EXPECT_EQ(s.micro_batch, 4);
  EXPECT_EQ(s.seq_length, 48);
}

TEST(Settings, Data) {
  config::Config c = tiny();
  const DatasetSpec text = dataset_spec(c, false);
  EXPECT_EQ(text.text, "a.txt");
  EXPECT_TRUE(text.token_files.empty() && text.validation_token_files.empty() && !text.verify);
  EXPECT_EQ(text.validation_fraction, 0.2);
  EXPECT_EQ(text.seq_length, 48);
  EXPECT_EQ(text.vocabulary, 300);
  c.mutable_data()->clear_text();
  for (const char* glob : {"a*.bin", "b*.bin"}) c.mutable_data()->add_tokens(glob);
  c.mutable_data()->add_validation_tokens("v.bin");
  const DatasetSpec tokens = dataset_spec(c, true);
  EXPECT_EQ(tokens.token_files, (std::vector<std::string>{"a*.bin", "b*.bin"}));
  EXPECT_EQ(tokens.validation_token_files, std::vector<std::string>{"v.bin"});
  EXPECT_TRUE(tokens.text.empty() && tokens.verify);
}

TEST(Settings, InferenceIsShardedOnSeveralRanksOnly) {
  const SelfCommunicator self;
  EXPECT_EQ(inference_settings(self).ranks, 1);
  EXPECT_EQ(inference_settings(self).zero_stage, 0);
  EXPECT_FALSE(inference_settings(self).train);
}

TEST(Budget, UnsetIsNone) {
  config::Config c = tiny();
  EXPECT_EQ(budget_bytes(c), int64_t{2} << 20);
  c.clear_memory();
  EXPECT_EQ(budget_bytes(c), 0);
}

}  // namespace
}  // namespace memwall
