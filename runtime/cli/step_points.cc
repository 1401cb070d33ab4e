#include "runtime/cli/step_points.h"

#include "runtime/sim/simulate.h"

namespace memwall {
namespace {

double between(std::chrono::steady_clock::time_point from,
               std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

StepPoints::StepPoints(const Plan& plan) {
  for (const Program& program : plan.programs) {
    for (const memwall::Step& step : program.steps) {
      if (step.stream == Stream::kCommunication) continue;
      if (step.op != Op::kChunked) {
        add_work(step, 1);
        continue;
      }
      const Body& body = program.bodies[static_cast<size_t>(step.body)];
      for (const memwall::Step& inner : body.steps) add_work(inner, body.count);
    }
  }
  sums_.resize(work_.size());
}

void StepPoints::add_work(const memwall::Step& step, int64_t launches) {
  const OpWork work = work_of(step, launches);
  const auto [found, is_new] = index_.try_emplace(
      {work.op, work.dtype, work.flops, work.dram_bytes, work.launches}, work_.size());
  if (is_new) work_.push_back(work);
  index_of_step_[&step] = found->second;
}

void StepPoints::add(const memwall::Step& step, double seconds, int64_t times) {
  Sum& sum = sums_[index_of_step_.at(&step)];
  sum.seconds += seconds;
  sum.times += times;
  compute_seconds_ += seconds;
}

void StepPoints::before(const Program&, size_t) {
  begun_ = Clock::now();
}

void StepPoints::before_progress(const Program& program, size_t step) {
  progress_begun_ = Clock::now();
  // What a body's loop takes itself is the host's.
  if (program.steps[step].op == Op::kChunked) return;
  add(program.steps[step], between(begun_, progress_begun_), 1);
}

void StepPoints::after(const Program& program, size_t step) {
  const bool transfer = program.steps[step].stream == Stream::kCommunication;
  transfer_seconds_ += between(transfer ? begun_ : progress_begun_, Clock::now());
}

void StepPoints::before_wait(const Program&, size_t, size_t) {
  wait_begun_ = Clock::now();
}

void StepPoints::after_wait(const Program&, size_t, size_t) {
  transfer_seconds_ += between(wait_begun_, Clock::now());
}

void StepPoints::before_inner(const memwall::Step&, int64_t) {
  inner_begun_ = Clock::now();
}

void StepPoints::after_inner(const memwall::Step& step, int64_t iteration) {
  const double seconds = between(inner_begun_, Clock::now());
  add(step, seconds, iteration == 0 ? 1 : 0);
}

StepPoints::Step StepPoints::take() {
  Step out;
  for (Sum& sum : sums_) {
    out.seconds.push_back(sum.times == 0 ? 0.0 : sum.seconds / static_cast<double>(sum.times));
    sum = {};
  }
  out.compute_seconds = compute_seconds_;
  out.transfer_seconds = transfer_seconds_;
  compute_seconds_ = transfer_seconds_ = 0.0;
  return out;
}

}  // namespace memwall
