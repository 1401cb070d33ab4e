#include <filesystem>

#include "runtime/config/config.h"
#include "runtime/config/fields.h"

namespace memwall {
namespace {

// Fills in what was left out. A default that would have no effect stays out, so that a completed
// configuration passes the checks of one that was written.
void complete_model(config::Model& model) {
  if (!model.has_family()) model.set_family(config::Model::GPT2);
  if (!model.has_dropout()) model.set_dropout(0.0);
  if (!model.has_init_seed() && !model.has_init_from()) model.set_init_seed(1);
}

void complete_data(config::Data& data, const config::Model& model, int64_t ranks) {
  if (!data.has_tokenizer()) data.set_tokenizer("bytes");
  if (!data.has_validation_fraction() && data.validation_tokens().empty()) {
    data.set_validation_fraction(0.1);
  }
  if (!data.has_seq_length() && model.has_context_length()) {
    data.set_seq_length(model.context_length());
  }
  int64_t global_batch = 0;
  const bool overflows = __builtin_mul_overflow(data.micro_batch_size(), ranks, &global_batch);
  if (!data.has_global_batch_size() && data.has_micro_batch_size() && !overflows) {
    data.set_global_batch_size(global_batch);
  }
  if (!data.has_sampling()) data.set_sampling(config::Data::SHUFFLED);
}

// What differs is Yao et al.'s: the defaults of their optimizer, and the blocks of their
// Transformers.
void complete_adahessian(config::Optimizer& optimizer) {
  if (!optimizer.has_learning_rate()) optimizer.set_learning_rate(0.15);
  if (!optimizer.has_beta2()) optimizer.set_beta2(0.999);
  if (!optimizer.has_eps()) optimizer.set_eps(1e-4);
  if (!optimizer.has_weight_decay()) optimizer.set_weight_decay(0.0);
  config::AdaHessian& own = *optimizer.mutable_adahessian();
  if (!own.has_hessian_power()) own.set_hessian_power(1.0);
  if (!own.has_block_size()) own.set_block_size(32);
  if (!own.has_update_every()) own.set_update_every(1);
  if (!own.has_probes()) own.set_probes(1);
}

void complete_optimizer(config::Optimizer& optimizer) {
  if (!optimizer.has_kind()) optimizer.set_kind(config::Optimizer::ADAMW);
  if (optimizer.kind() == config::Optimizer::ADAHESSIAN) complete_adahessian(optimizer);
  if (!optimizer.has_learning_rate()) optimizer.set_learning_rate(3e-4);
  if (optimizer.kind() == config::Optimizer::SGD) {
    if (!optimizer.has_momentum()) optimizer.set_momentum(0.0);
  } else {
    if (!optimizer.has_beta1()) optimizer.set_beta1(0.9);
    if (!optimizer.has_beta2()) optimizer.set_beta2(0.95);
    if (!optimizer.has_eps()) optimizer.set_eps(1e-8);
  }
  if (!optimizer.has_weight_decay()) optimizer.set_weight_decay(0.1);
  if (!optimizer.has_grad_clip()) optimizer.set_grad_clip(1.0);
}

void complete_schedule(config::Schedule& schedule, const config::Run& run) {
  if (!schedule.has_kind()) schedule.set_kind(config::Schedule::CONSTANT);
  if (!schedule.has_warmup_steps()) schedule.set_warmup_steps(0);
  if (schedule.kind() == config::Schedule::CONSTANT) return;
  if (!schedule.has_min_learning_rate()) schedule.set_min_learning_rate(0.0);
  const bool ends = schedule.kind() != config::Schedule::INVERSE_SQRT;
  if (ends && !schedule.has_decay_steps() && run.has_steps()) schedule.set_decay_steps(run.steps());
}

void complete_precision(config::Precision& precision) {
  if (!precision.has_mode()) precision.set_mode(config::Precision::FP32);
  if (precision.mode() != config::Precision::FP16) return;
  if (!precision.has_initial_loss_scale()) precision.set_initial_loss_scale(65536.0);
  if (!precision.has_growth_interval()) precision.set_growth_interval(2000);
  if (!precision.has_backoff()) precision.set_backoff(0.5);
  if (!precision.has_hysteresis()) precision.set_hysteresis(1);
  if (!precision.has_min_loss_scale()) precision.set_min_loss_scale(1.0);
}

void complete_distribution(config::Parallel& parallel, config::Communication& communication) {
  if (!parallel.has_zero_stage()) parallel.set_zero_stage(0);
  if (!parallel.has_prefetch_depth()) parallel.set_prefetch_depth(0);
  if (!communication.has_transport()) communication.set_transport(config::Communication::AUTO);
  if (!communication.has_algorithm()) {
    communication.set_algorithm(config::Communication::Collective::AUTO);
  }
  if (!communication.has_timeout_seconds()) communication.set_timeout_seconds(600.0);
}

void complete_run(config::Run& run) {
  if (!run.has_name()) run.set_name("run");
  if (!run.has_seed()) run.set_seed(1);
  if (!run.has_log_every()) run.set_log_every(10);
  if (!run.has_eval_every()) run.set_eval_every(0);
  if (!run.has_save_every()) run.set_save_every(0);
  if (!run.has_keep_checkpoints()) run.set_keep_checkpoints(2);
  if (!run.has_device()) run.set_device(config::Run::AUTO);
}

std::string absolute(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

}  // namespace

config::Config effective(const config::Config& given, int64_t ranks) {
  config::Config out = given;
  complete_model(*out.mutable_model());
  complete_data(*out.mutable_data(), out.model(), ranks);
  complete_optimizer(*out.mutable_optimizer());
  complete_schedule(*out.mutable_schedule(), out.run());
  complete_precision(*out.mutable_precision());
  complete_distribution(*out.mutable_parallel(), *out.mutable_communication());
  auto& checkpointing = *out.mutable_activation_checkpointing();
  if (!checkpointing.has_policy()) checkpointing.set_policy(config::ActivationCheckpointing::NONE);
  complete_run(*out.mutable_run());
  return out;
}

void resolve_paths(config::Config& config) {
  config::Data& data = *config.mutable_data();
  if (data.has_text()) data.set_text(absolute(data.text()));
  for (std::string& glob : *data.mutable_tokens()) glob = absolute(glob);
  for (std::string& glob : *data.mutable_validation_tokens()) glob = absolute(glob);
  if (data.has_tokenizer() && data.tokenizer() != "bytes") {
    data.set_tokenizer(absolute(data.tokenizer()));
  }
  if (config.model().has_init_from()) {
    config.mutable_model()->set_init_from(absolute(config.model().init_from()));
  }
  if (config.communication().has_cluster()) {
    config.mutable_communication()->set_cluster(absolute(config.communication().cluster()));
  }
}

}  // namespace memwall
