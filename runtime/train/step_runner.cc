#include "runtime/train/step_runner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "optim/loss_scale.h"
#include "runtime/train/elements.h"
#include "runtime/train/overflow.h"

namespace memwall {
namespace {

constexpr double kNsPerSecond = 1e9;

}  // namespace

MicroBatchFeed feed_from(const TokenRange& training, const TrainSettings& settings, int ranks,
                         int rank) {
  const Sampler sampler(training, settings.sampling, settings.seq_length,
                        static_cast<uint64_t>(settings.seed));
  const BatchLayout layout{ranks, settings.micro_batch, settings.global_batch};
  return [sampler, layout, rank](int64_t step, int64_t micro_step, std::span<int32_t> tokens,
                                 std::span<int32_t> targets, std::span<int64_t> samples) {
    fill_micro_batch(sampler, layout, step, micro_step, rank, tokens, targets, samples);
  };
}

StepRunner::StepRunner(Executor& executor, MicroBatchFeed feed, const TrainSettings& settings,
                       StepTimer* timer)
    : executor_(executor),
      settings_(settings),
      feed_(std::move(feed)),
      layout_{executor.comm().size(), settings.micro_batch, settings.global_batch},
      timer_(timer),
      samples_(static_cast<size_t>(settings.micro_batch)) {
  check(layout_.micro_steps() == executor.plan().micro_steps, "the plan has another global batch");
  const Shape sequences{settings.micro_batch, settings.seq_length};
  check(executor.slot(SlotKind::kTokens).elements() == sequences.elements(),
        "the plan has other sequences");
}

double StepRunner::tokens() const {
  return static_cast<double>(settings_.global_batch * settings_.seq_length);
}

std::vector<std::string> StepRunner::programs(bool curvature) const {
  const Plan& plan = executor_.plan();
  std::vector<std::string> names;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    const std::string name(run.program);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

double& StepRunner::scalar(Scalar which) {
  return executor_.slot(SlotKind::kScalars).as<double>()[static_cast<int64_t>(which)];
}

void StepRunner::write_scalars(int64_t step, const StepState& state, const StepRequests& requests) {
  const int64_t contributions = layout_.ranks * layout_.micro_steps();
  const bool dynamic = settings_.loss_scale.dynamic;
  const double scale = dynamic ? effective_loss_scale(state.loss_scale.scale, contributions) : 1.0;
  scalar(Scalar::kSeed) = scale / tokens();
  scalar(Scalar::kLossScale) = scale;
  scalar(Scalar::kLearningRate) = settings_.schedule.at(step);
  scalar(Scalar::kUpdates) = static_cast<double>(state.applied + 1);
  scalar(Scalar::kStopRequest) = encode(requests);
  const double sign_scale = dynamic ? state.sign_scale.scale : 1.0;
  scalar(Scalar::kSignScale) = sign_scale;
  scalar(Scalar::kHessianFactor) =
      1.0 / (scale * sign_scale * static_cast<double>(executor_.plan().probes));
  scalar(Scalar::kHessianUpdates) =
      static_cast<double>(state.measured + (measuring_ || state.measured == 0 ? 1 : 0));
}

// Input and direction of a run.
void StepRunner::prepare(int64_t step, const ProgramRun& run) {
  if (run.probe == 0) feed(step, run.micro_step);
  scalar(Scalar::kDraw) = static_cast<double>(1 + step * executor_.plan().probes + run.probe);
  executor_.send(SlotKind::kScalars);
}

void StepRunner::feed(int64_t step, int64_t micro_step) {
  feed_(step, micro_step, elements_of<int32_t>(executor_.slot(SlotKind::kTokens)),
        elements_of<int32_t>(executor_.slot(SlotKind::kTargets)), samples_);
  executor_.send(SlotKind::kTokens);
  executor_.send(SlotKind::kTargets);
  if (const Slot* index = executor_.plan().find_slot(SlotKind::kSampleIndex)) {
    const Tensor slot = executor_.slot(*index);
    std::copy(samples_.begin(), samples_.end(), slot.as<int64_t>());
    executor_.send(slot);
  }
}

void StepRunner::read_scalars(StepReport& report) {
  report.loss = scalar(Scalar::kLoss);
  report.grad_norm = scalar(Scalar::kGradNorm);
  report.learning_rate = scalar(Scalar::kLearningRate);
  report.skipped = scalar(Scalar::kSkip) != 0.0;
  report.agreed = decode_requests(scalar(Scalar::kStopAgreed));
  if (report.measured) report.trace = scalar(Scalar::kTrace);
  report.sign_scale = scalar(Scalar::kSignScale);
}

void StepRunner::run_programs(int64_t step) {
  const Plan& plan = executor_.plan();
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, measuring_)) {
    const Program& program = plan.program(run.program);
    if (!is_update(program)) {
      const int64_t input_start = steady_ns();
      prepare(step, run);
      if (timer_ != nullptr) timer_->input(input_start, steady_ns());
    }
    executor_.run(program, run.micro_step);
  }
}

StepReport StepRunner::run(int64_t step, const StepState& state, const StepRequests& requests) {
  StepReport report;
  report.loss_scale = state.loss_scale.scale;
  measuring_ = settings_.curvature_every > 0 && state.applied % settings_.curvature_every == 0;
  report.measured = measuring_;
  if (timer_ != nullptr) timer_->begin();
  const Ledger before = executor_.transfers().ledger();
  const int64_t start = steady_ns();
  write_scalars(step, state, requests);
  run_programs(step);
  executor_.fetch(SlotKind::kScalars);
  report.seconds = static_cast<double>(steady_ns() - start) / kNsPerSecond;
  report.traffic = difference(executor_.transfers().ledger(), before);
  if (timer_ != nullptr) {
    report.split = timer_->end();
    report.seconds = static_cast<double>(report.split.total_ns) / kNsPerSecond;
  }
  read_scalars(report);
  return report;
}

std::string StepRunner::overflow_origin(int64_t step, Overflow overflow) {
  return find_overflow(executor_, measuring_, overflow == Overflow::kCurvature,
                       [&](const ProgramRun& run) { prepare(step, run); });
}

Overflow overflow_of(const StepReport& report) {
  if (!report.skipped) return Overflow::kNone;
  const bool of_curvature = report.measured && std::isfinite(report.grad_norm);
  return of_curvature ? Overflow::kCurvature : Overflow::kGradient;
}

StepState next_state(const StepState& state, const StepReport& report,
                     const LossScaleSettings& scales) {
  StepState next = state;
  const Overflow overflow = overflow_of(report);
  if (overflow != Overflow::kCurvature) {
    next.loss_scale = next_loss_scale(scales, state.loss_scale, report.skipped);
  }
  if (report.measured && overflow != Overflow::kGradient) {
    next.sign_scale =
        next_loss_scale(sign_scale_settings(scales), state.sign_scale, report.skipped);
  }
  if (report.skipped) return next;
  ++next.applied;
  next.measured += report.measured ? 1 : 0;
  return next;
}

}  // namespace memwall
