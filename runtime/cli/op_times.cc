#include "runtime/cli/op_times.h"

namespace memwall {
namespace {

double between(std::chrono::steady_clock::time_point from,
               std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

void OpTimes::before(const Program& program, size_t step) {
  begun_ = Clock::now();
  inner_seconds_ = 0.0;
  if (step == 0 || program.steps[step].waits.empty()) return;
  ++waiting_.calls;
  waiting_.seconds += between(ended_, begun_);
}

void OpTimes::after(const Program& program, size_t step) {
  ended_ = Clock::now();
  Entry& entry = by_op_[static_cast<size_t>(program.steps[step].op)];
  ++entry.calls;
  entry.seconds += between(begun_, ended_) - inner_seconds_;
}

void OpTimes::before_inner(const Step&, int64_t) {
  inner_begun_ = Clock::now();
}

void OpTimes::after_inner(const Step& step, int64_t) {
  const double taken = between(inner_begun_, Clock::now());
  Entry& entry = by_op_[static_cast<size_t>(step.op)];
  ++entry.calls;
  entry.seconds += taken;
  inner_seconds_ += taken;
}

double OpTimes::seconds() const {
  double sum = waiting_.seconds;
  for (const Entry& entry : by_op_) sum += entry.seconds;
  return sum;
}

}  // namespace memwall
