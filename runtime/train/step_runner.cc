#include "runtime/train/step_runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "optim/loss_scale.h"
#include "runtime/train/elements.h"
#include "runtime/train/overflow.h"

namespace memwall {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

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

StepRunner::StepRunner(Executor& executor, MicroBatchFeed feed, const TrainSettings& settings)
    : executor_(executor),
      settings_(settings),
      feed_(std::move(feed)),
      layout_{executor.comm().size(), settings.micro_batch, settings.global_batch},
      samples_(static_cast<size_t>(settings.micro_batch)) {
  check(layout_.micro_steps() == executor.plan().micro_steps, "the plan has another global batch");
  const Shape sequences{settings.micro_batch, settings.seq_length};
  check(executor.slot(SlotKind::kTokens).elements() == sequences.elements(),
        "the plan has other sequences");
}

double StepRunner::tokens() const {
  return static_cast<double>(settings_.global_batch * settings_.seq_length);
}

std::vector<std::string> StepRunner::programs() const {
  if (executor_.plan().micro_steps == 1) return {"last_micro", "update"};
  return {"micro", "last_micro", "update"};
}

double& StepRunner::scalar(Scalar which) {
  return executor_.slot(SlotKind::kScalars).as<double>()[static_cast<int64_t>(which)];
}

void StepRunner::write_scalars(int64_t step, int64_t applied, double loss_scale,
                               const StepRequests& requests) {
  const double scale = settings_.loss_scale.dynamic
                           ? effective_loss_scale(loss_scale, layout_.ranks * layout_.micro_steps())
                           : 1.0;
  scalar(Scalar::kSeed) = scale / tokens();
  scalar(Scalar::kLossScale) = scale;
  scalar(Scalar::kLearningRate) = settings_.schedule.at(step);
  scalar(Scalar::kUpdates) = static_cast<double>(applied + 1);
  scalar(Scalar::kStopRequest) = encode(requests);
}

void StepRunner::feed(int64_t step, int64_t micro_step) {
  feed_(step, micro_step, elements_of<int32_t>(executor_.slot(SlotKind::kTokens)),
        elements_of<int32_t>(executor_.slot(SlotKind::kTargets)), samples_);
  if (const Slot* index = executor_.plan().find_slot(SlotKind::kSampleIndex)) {
    std::copy(samples_.begin(), samples_.end(), executor_.slot(*index).as<int64_t>());
  }
}

void StepRunner::read_scalars(StepReport& report) {
  report.loss = scalar(Scalar::kLoss);
  report.grad_norm = scalar(Scalar::kGradNorm);
  report.learning_rate = scalar(Scalar::kLearningRate);
  report.skipped = scalar(Scalar::kSkip) != 0.0;
  report.agreed = decode_requests(scalar(Scalar::kStopAgreed));
}

StepReport StepRunner::run(int64_t step, int64_t applied, double loss_scale,
                           const StepRequests& requests) {
  StepReport report;
  report.loss_scale = loss_scale;
  const Plan& plan = executor_.plan();
  const Ledger before = executor_.comm().ledger();
  const auto start = Clock::now();
  write_scalars(step, applied, loss_scale, requests);
  for (int64_t a = 0; a < plan.micro_steps; ++a) {
    const auto input_start = Clock::now();
    feed(step, a);
    report.input_seconds += seconds_between(input_start, Clock::now());
    executor_.run(plan.program(a + 1 < plan.micro_steps ? "micro" : "last_micro"), a);
  }
  const auto update_start = Clock::now();
  executor_.run(plan.program("update"));
  const auto end = Clock::now();
  report.micro_step_seconds = seconds_between(start, update_start) - report.input_seconds;
  report.update_seconds = seconds_between(update_start, end);
  report.seconds = seconds_between(start, end);
  report.traffic = difference(executor_.comm().ledger(), before);
  read_scalars(report);
  return report;
}

std::string StepRunner::overflow_origin(int64_t step) {
  return find_overflow(executor_, [&](int64_t micro_step) { feed(step, micro_step); });
}

}  // namespace memwall
