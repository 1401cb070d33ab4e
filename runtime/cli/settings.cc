#include "runtime/cli/settings.h"

#include <fmt/format.h>

#include <vector>

#include "comm/make_communicator.h"
#include "runtime/base/error.h"
#include "runtime/cli/encode_progress.h"
#include "runtime/cli/job.h"
#include "runtime/cli/machine.h"
#include "runtime/config/cluster.h"
#include "runtime/config/units.h"

namespace memwall {
namespace {

DType dtype_of(config::Precision::Mode mode) {
  switch (mode) {
    case config::Precision::FP16: return DType::kF16;
    case config::Precision::BF16: return DType::kBF16;
    case config::Precision::FP64: return DType::kF64;
    default: return DType::kF32;
  }
}

Sampling sampling_of(config::Data::Sampling sampling) {
  switch (sampling) {
    case config::Data::RANDOM_OFFSET: return Sampling::kRandomOffset;
    case config::Data::SEQUENTIAL: return Sampling::kSequential;
    default: return Sampling::kShuffled;
  }
}

LearningRateSchedule schedule_of(const config::Config& c) {
  LearningRateSchedule out;
  switch (c.schedule().kind()) {
    case config::Schedule::CONSTANT: out.kind = ScheduleKind::kConstant; break;
    case config::Schedule::COSINE: out.kind = ScheduleKind::kCosine; break;
    case config::Schedule::LINEAR: out.kind = ScheduleKind::kLinear; break;
    case config::Schedule::WSD: out.kind = ScheduleKind::kWsd; break;
    case config::Schedule::INVERSE_SQRT: out.kind = ScheduleKind::kInverseSqrt; break;
    default: throw InternalError("a schedule that validation let through", "schedule.kind");
  }
  out.learning_rate = c.optimizer().learning_rate();
  out.min_learning_rate = c.schedule().min_learning_rate();
  out.warmup_steps = c.schedule().warmup_steps();
  out.decay_steps = c.schedule().decay_steps();
  return out;
}

// Throws InputError where SELECTIVE does not say what to keep, or names no preset.
CheckpointPolicy checkpoint_policy(const config::ActivationCheckpointing& c) {
  CheckpointPolicy out;
  switch (c.policy()) {
    case config::ActivationCheckpointing::BLOCK: out.kind = Checkpointing::kBlock; break;
    case config::ActivationCheckpointing::SELECTIVE: out.kind = Checkpointing::kSelective; break;
    default: return out;
  }
  if (out.kind == Checkpointing::kBlock) return out;
  if (c.has_preset()) out.keep = checkpoint_preset(c.preset());
  out.keep.insert(out.keep.end(), c.keep().begin(), c.keep().end());
  if (out.keep.empty()) {
    throw InputError("says nothing to keep", "activation_checkpointing.policy: SELECTIVE",
                     "give activation_checkpointing.keep or preset; or policy BLOCK");
  }
  return out;
}

OptimizerSettings optimizer_settings(const config::Optimizer& c) {
  if (c.kind() == config::Optimizer::SGD) {
    return SgdSettings{.momentum = c.momentum(), .weight_decay = c.weight_decay()};
  }
  if (c.kind() == config::Optimizer::ADAHESSIAN) {
    return AdaHessianSettings{.beta1 = c.beta1(),
                              .beta2 = c.beta2(),
                              .epsilon = c.eps(),
                              .weight_decay = c.weight_decay(),
                              .hessian_power = c.adahessian().hessian_power(),
                              .averaging_block = c.adahessian().block_size(),
                              .update_every = c.adahessian().update_every(),
                              .probes = c.adahessian().probes()};
  }
  return AdamWSettings{
      .beta1 = c.beta1(), .beta2 = c.beta2(), .epsilon = c.eps(), .weight_decay = c.weight_decay()};
}

LossScaleSettings loss_scale_settings(const config::Precision& c) {
  if (c.mode() != config::Precision::FP16) return {};
  return {.dynamic = true,
          .initial_scale = c.initial_loss_scale(),
          .growth_interval = c.growth_interval(),
          .backoff = c.backoff(),
          .hysteresis = c.hysteresis(),
          .min_scale = c.min_loss_scale()};
}

double time_limit_seconds(const config::Config& c) {
  return c.run().has_time_limit() ? parse_duration_seconds(c.run().time_limit()) : 0.0;
}

}  // namespace

bool on_gpu(const config::Config& c) {
  return c.run().device() == config::Run::CUDA;
}

GptSpec gpt_spec(const config::Config& c) {
  GptSpec spec;
  spec.layers = c.model().num_layers();
  spec.hidden = c.model().hidden_size();
  spec.heads = c.model().num_heads();
  spec.context = c.model().context_length();
  spec.vocabulary = c.model().vocab_size();
  spec.batch = c.data().micro_batch_size();
  spec.time = c.data().seq_length();
  spec.dropout = c.model().dropout();
  spec.dropout_seed = static_cast<int64_t>(c.run().seed());
  spec.dtype = dtype_of(c.precision().mode());
  spec.head_rows = on_gpu(c) ? kDeviceHeadRows : kChunkRows;
  return spec;
}

BatchLayout batch_layout(const config::Config& c, int64_t ranks) {
  return {.ranks = ranks,
          .micro_batch = c.data().micro_batch_size(),
          .global_batch = c.data().global_batch_size()};
}

FabricRequest fabric_request(const config::Communication& communication) {
  FabricRequest out;
  if (communication.transport() == config::Communication::MPI) out.transport = Transport::kMpi;
  if (communication.transport() == config::Communication::SHARED_MEMORY) {
    out.transport = Transport::kSharedMemory;
  }
  if (communication.transport() == config::Communication::NCCL) out.transport = Transport::kNccl;
  if (communication.transport() == config::Communication::STAGED) {
    out.transport = Transport::kStaged;
  }
  switch (communication.algorithm()) {
    case config::Communication::Collective::PAIRWISE: out.algorithm = Algorithm::kPairwise; break;
    case config::Communication::Collective::RING: out.algorithm = Algorithm::kRing; break;
    case config::Communication::Collective::TWO_LEVEL: out.algorithm = Algorithm::kTwoLevel; break;
    default: break;
  }
  return out;
}

namespace {

void refuse_windows_without_nccl(const config::Communication& communication, const Fabric& fabric,
                                 int64_t ranks) {
  if (!communication.symmetric_windows()) return;
  if (ranks > 1 && fabric.transport == Transport::kNccl) return;
  const std::string why = ranks == 1 ? "one rank has no other's memory to reach"
                                     : fmt::format("only NCCL has windows, and the transport is {}",
                                                   name_of(fabric.transport));
  throw InputError(why, "communication.symmetric_windows: true",
                   "leave it out, or take several ranks and a GPU for each");
}

CollectiveChoice collectives_of(const config::Communication& communication,
                                const Hosting& hosting) {
  CollectiveChoice out;
  out.asked = fabric_request(communication).algorithm;
  const int64_t a_node = hosting.ranks_a_node;
  out.topology = {.ranks = hosting.ranks, .ranks_a_node = a_node, .nodes = hosting.ranks / a_node};
  if (communication.has_cluster()) {
    out.network = machine_of(load_cluster(communication.cluster()), communication.cluster());
  }
  return out;
}

}  // namespace

CompileSettings compile_settings(const config::Config& c, int64_t ranks) {
  return compile_settings(c, Hosting{ranks, ranks, ranks});
}

CompileSettings compile_settings(const config::Config& c, const Hosting& hosting) {
  const int64_t ranks = hosting.ranks;
  CompileSettings out;
  out.ranks = ranks;
  out.zero_stage = c.parallel().zero_stage();
  out.micro_steps = batch_layout(c, ranks).micro_steps();
  out.prefetch_depth = c.parallel().prefetch_depth();
  out.checkpointing = checkpoint_policy(c.activation_checkpointing());
  out.init_seed = static_cast<int64_t>(c.model().init_seed());
  out.direction_seed = static_cast<int64_t>(c.run().seed());
  out.optimizer = optimizer_settings(c.optimizer());
  out.grad_clip = c.optimizer().grad_clip();
  out.fabric = on_gpu(c) ? choose_gpu_fabric(fabric_request(c.communication()), hosting)
                         : choose_fabric(fabric_request(c.communication()), hosting);
  if (on_gpu(c)) {
    out.target = hosting.gpu_target;
    if (c.run().has_product_epilogues() && !c.run().product_epilogues()) {
      out.epilogues = ProductEpilogues{};
    }
    out.fuses_attention = !c.run().has_fused_attention() || c.run().fused_attention();
    refuse_windows_without_nccl(c.communication(), out.fabric, ranks);
  }
  out.collectives = collectives_of(c.communication(), hosting);
  return out;
}

CompileSettings inference_settings(const Communicator& comm) {
  CompileSettings out;
  out.ranks = comm.size();
  out.fabric = {comm.transport(), comm.window_ranks()};
  out.collectives.asked = Algorithm::kPairwise;
  out.zero_stage = comm.size() > 1 ? 3 : 0;
  out.train = false;
  out.evaluate = false;
  return out;
}

int64_t budget_bytes(const config::Config& c) {
  return c.memory().has_budget() ? parse_bytes(c.memory().budget()) : 0;
}

TrainSettings train_settings(const config::Config& c, int64_t ranks) {
  const BatchLayout layout = batch_layout(c, ranks);
  TrainSettings out;
  out.steps = c.run().steps();
  out.log_every = c.run().log_every();
  out.eval_every = c.run().eval_every();
  out.save_every = c.run().save_every();
  out.keep_checkpoints = c.run().keep_checkpoints();
  out.time_limit_seconds = time_limit_seconds(c);
  out.seed = static_cast<int64_t>(c.run().seed());
  out.sampling = sampling_of(c.data().sampling());
  out.schedule = schedule_of(c);
  out.loss_scale = loss_scale_settings(c.precision());
  if (c.optimizer().kind() == config::Optimizer::ADAHESSIAN) {
    out.curvature_every = c.optimizer().adahessian().update_every();
  }
  if (c.run().has_trace_steps()) {
    const StepRange traced = parse_step_range(c.run().trace_steps());
    out.trace_first_step = traced.first;
    out.trace_last_step = traced.last;
  }
  out.global_batch = layout.global_batch;
  out.micro_batch = layout.micro_batch;
  out.seq_length = c.data().seq_length();
  return out;
}

DatasetSpec dataset_spec(const config::Config& c, bool verify) {
  const config::Data& data = c.data();
  return {
      .text = data.text(),
      .token_files = {data.tokens().begin(), data.tokens().end()},
      .validation_token_files = {data.validation_tokens().begin(), data.validation_tokens().end()},
      .validation_fraction = data.validation_fraction(),
      .seq_length = data.seq_length(),
      .vocabulary = c.model().vocab_size(),
      .verify = verify,
      .tokenizer = data.tokenizer(),
      .progress = verify ? encode_progress() : EncodeProgress()};
}

}  // namespace memwall
