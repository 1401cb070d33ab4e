#include "runtime/config/rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "runtime/config/fields.h"
#include "runtime/config/range.h"

namespace memwall {
namespace {

constexpr double kMostLayers = 2048.0;       // compiling takes their square: here some ten seconds
constexpr double kMostSeed = 0x1p63 - 1024;  // seeds are kept as int64_t

struct Required {
  std::string_view field;
  bool for_a_plan;
};
constexpr std::array<Required, 7> kRequired = {{{"model.num_layers", true},
                                                {"model.hidden_size", true},
                                                {"model.num_heads", true},
                                                {"model.context_length", true},
                                                {"model.vocab_size", true},
                                                {"data.micro_batch_size", true},
                                                {"run.steps", false}}};

constexpr std::array kRanges = {
    Range{"model.num_layers", 1.0, kMostLayers},
    count("model.hidden_size", 1),
    count("model.num_heads", 1),
    count("model.context_length", 1),
    count("model.vocab_size", 1),
    share("model.dropout"),
    Range{"model.init_seed", 0.0, kMostSeed},
    share("data.validation_fraction"),
    count("data.seq_length", 1),
    count("data.micro_batch_size", 1),
    at_least_zero("optimizer.learning_rate"),
    share("optimizer.beta1"),
    share("optimizer.beta2"),
    share("optimizer.momentum"),
    above_zero("optimizer.eps"),
    at_least_zero("optimizer.weight_decay"),
    at_least_zero("optimizer.grad_clip"),
    Range{"optimizer.adahessian.hessian_power", 0.0, 1.0, false, true},
    count("optimizer.adahessian.update_every", 1),
    count("optimizer.adahessian.probes", 1),
    count("schedule.warmup_steps", 0),
    at_least_zero("schedule.min_learning_rate"),
    count("schedule.decay_steps", 1),
    above_zero("precision.initial_loss_scale"),
    count("precision.growth_interval", 1),
    Range{"precision.backoff", 0.0, 1.0, false, false},
    count("precision.hysteresis", 1),
    above_zero("precision.min_loss_scale"),
    Range{"parallel.zero_stage", 0.0, 3.0},
    count("parallel.prefetch_depth", 0),
    above_zero("communication.timeout_seconds"),
    count("run.steps", 1),
    Range{"run.seed", 0.0, kMostSeed},
    count("run.log_every", 1),
    count("run.eval_every", 0),
    count("run.save_every", 0),
    count("run.keep_checkpoints", 1),
    above_zero("run.peak_flops"),
};

// What carries bytes between ranks on one device and not on the other.
struct OtherDevice {
  config::Communication::Transport transport;
  config::Run::Device device;  // that it does not serve
  std::string_view reason, allowed;
};
constexpr std::string_view kForCpus = "AUTO, MPI, SHARED_MEMORY", kForGpus = "AUTO, NCCL, STAGED";
constexpr std::array<OtherDevice, 4> kOtherDevices = {{
    {config::Communication::NCCL, config::Run::CPU, "with run.device CPU", kForCpus},
    {config::Communication::STAGED, config::Run::CPU, "with run.device CPU", kForCpus},
    {config::Communication::MPI, config::Run::CUDA, "with run.device CUDA", kForGpus},
    {config::Communication::SHARED_MEMORY, config::Run::CUDA, "with run.device CUDA", kForGpus},
}};

// Where `holds`, the field has no effect, for the reason named. A zero of a field for which 0 means
// "off" says the same thing and is let through.
struct NoEffect {
  std::string_view field;
  std::string_view reason;
  bool (*holds)(const config::Config& whole);
  bool zero_is_off = false;
};
bool is_constant(const config::Config& c) {
  return c.schedule().kind() == config::Schedule::CONSTANT;
}
bool never_ends(const config::Config& c) {
  return c.schedule().kind() == config::Schedule::INVERSE_SQRT;
}
bool has_no_loss_scale(const config::Config& c) {
  return c.precision().mode() != config::Precision::FP16;
}
bool has_no_fp32_products_on_gpus(const config::Config& c) {
  return c.precision().mode() != config::Precision::FP32 || c.run().device() != config::Run::CUDA;
}
bool has_no_fused_attention(const config::Config& c) {
  return !could_fuse_attention(c) || c.run().device() == config::Run::CPU;
}
bool has_no_epilogues(const config::Config& c) {
  return c.precision().mode() == config::Precision::FP64 || c.run().device() != config::Run::CUDA;
}
bool is_not_on_gpus(const config::Config& c) {
  return c.run().device() != config::Run::CUDA;
}
bool starts_from_a_folder(const config::Config& c) {
  return c.model().has_init_from();
}
bool has_validation_files(const config::Config& c) {
  return !c.data().validation_tokens().empty();
}
bool reads_text(const config::Config& c) {
  return c.data().has_text();
}
bool holds_nothing_out(const config::Config& c) {
  return c.data().validation_tokens().empty() && c.data().validation_fraction() == 0.0;
}
bool is_not_selective(const config::Config& c) {
  return c.activation_checkpointing().policy() != config::ActivationCheckpointing::SELECTIVE;
}
bool is_sgd(const config::Config& c) {
  return c.optimizer().kind() == config::Optimizer::SGD;
}
bool is_not_sgd(const config::Config& c) {
  return !is_sgd(c);
}
bool is_not_adahessian(const config::Config& c) {
  return c.optimizer().kind() != config::Optimizer::ADAHESSIAN;
}
bool names_an_algorithm(const config::Config& c) {
  return c.communication().algorithm() != config::Communication::Collective::AUTO;
}
constexpr std::string_view kWithSgd = "with optimizer.kind SGD";
constexpr std::string_view kAdaHessianOnly = "with an optimizer.kind other than ADAHESSIAN";
constexpr std::string_view kSelectiveOnly =
    "with an activation_checkpointing.policy other than SELECTIVE";
constexpr std::string_view kFp16Only = "with a precision.mode other than FP16";
constexpr std::array<NoEffect, 28> kNoEffects = {{
    {"model.init_seed", "with model.init_from", starts_from_a_folder},
    {"data.validation_tokens", "with data.text", reads_text},
    {"data.validation_fraction", "with data.validation_tokens", has_validation_files},
    {"optimizer.beta1", kWithSgd, is_sgd},
    {"optimizer.beta2", kWithSgd, is_sgd},
    {"optimizer.eps", kWithSgd, is_sgd},
    {"optimizer.momentum", "with an optimizer.kind other than SGD", is_not_sgd, true},
    {"optimizer.adahessian.hessian_power", kAdaHessianOnly, is_not_adahessian},
    {"optimizer.adahessian.block_size", kAdaHessianOnly, is_not_adahessian},
    {"optimizer.adahessian.update_every", kAdaHessianOnly, is_not_adahessian},
    {"optimizer.adahessian.probes", kAdaHessianOnly, is_not_adahessian},
    {"schedule.min_learning_rate", "with schedule.kind CONSTANT", is_constant},
    {"schedule.decay_steps", "with schedule.kind CONSTANT", is_constant},
    {"schedule.decay_steps", "with schedule.kind INVERSE_SQRT", never_ends},
    {"communication.symmetric_windows", "but with run.device CUDA", is_not_on_gpus},
    {"precision.tf32", "but with precision.mode FP32 and run.device CUDA",
     has_no_fp32_products_on_gpus},
    {"precision.initial_loss_scale", kFp16Only, has_no_loss_scale},
    {"precision.growth_interval", kFp16Only, has_no_loss_scale},
    {"precision.backoff", kFp16Only, has_no_loss_scale},
    {"precision.hysteresis", kFp16Only, has_no_loss_scale},
    {"precision.min_loss_scale", kFp16Only, has_no_loss_scale},
    {"activation_checkpointing.keep", kSelectiveOnly, is_not_selective},
    {"activation_checkpointing.preset", kSelectiveOnly, is_not_selective},
    {"communication.cluster", "with a communication.algorithm other than AUTO", names_an_algorithm},
    {"run.eval_every", "with data.validation_fraction 0", holds_nothing_out, true},
    {"run.fused_attention", "but on a GPU, in FP16 or BF16 and with model.dropout 0",
     has_no_fused_attention},
    {"run.cuda_graphs", "but with run.device CUDA", is_not_on_gpus},
    {"run.product_epilogues", "but with run.device CUDA and a precision.mode other than FP64",
     has_no_epilogues},
}};

}  // namespace

bool could_fuse_attention(const config::Config& c) {
  const bool narrow = c.precision().mode() == config::Precision::FP16 ||
                      c.precision().mode() == config::Precision::BF16;
  return narrow && c.model().dropout() == 0.0;
}

void check_required(const GivenConfig& given, Purpose purpose, Problems& out) {
  for (const Required& required : kRequired) {
    if (purpose != Purpose::kTrain && !required.for_a_plan) continue;
    if (has_field(given.config, required.field)) continue;
    out.push_back({given.at(required.field), "is missing",
                   allowed_values(*find_field(required.field).leaf())});
  }
}

void check_ranges(const GivenConfig& given, const config::Config& whole, Problems& out) {
  for (const Range& range : kRanges) {
    const std::optional<double> value = number_of(whole, range.field);
    if (!value || range.contains(*value)) continue;
    out.push_back({given.at(range.field),
                   fmt::format("{} is out of range", value_text(whole, range.field)),
                   range.text()});
  }
}

void check_device(const GivenConfig& given, const config::Config& whole, Purpose purpose,
                  Problems& out) {
  constexpr std::string_view kDevice = "run.device";
  if (purpose == Purpose::kBench && whole.run().device() == config::Run::CUDA) {
    out.push_back(
        {given.at(kDevice), "CUDA is not for `memwall bench`, which measures CPUs", "AUTO, CPU"});
  }
  constexpr std::string_view kTransport = "communication.transport";
  for (const OtherDevice& row : kOtherDevices) {
    const bool asked = whole.communication().transport() == row.transport;
    if (!asked || whole.run().device() != row.device) continue;
    out.push_back({given.at(kTransport),
                   fmt::format("{} is not {}", value_text(whole, kTransport), row.reason),
                   std::string(row.allowed)});
  }
}

void check_effects(const GivenConfig& given, const config::Config& whole, Problems& out) {
  for (const NoEffect& row : kNoEffects) {
    if (!has_field(given.config, row.field) || !row.holds(whole)) continue;
    if (row.zero_is_off && number_of(given.config, row.field) == 0.0) continue;
    out.push_back(
        {given.at(row.field), fmt::format("has no effect {}", row.reason), "leave it out"});
  }
}

}  // namespace memwall
