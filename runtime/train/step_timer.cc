#include "runtime/train/step_timer.h"

#include <algorithm>
#include <vector>

namespace memwall {
namespace {

// Clocks that the system disciplines drift by some microseconds a second: in a minute by less than
// the milliseconds that a network's delays leave uncertain.
constexpr int64_t kMeasureEveryNs = 60'000'000'000;

}  // namespace

StepTimer::StepTimer(Executor& executor)
    : executor_(executor), recorder_(executor), clock_(executor.comm()) {}

StepTimer::~StepTimer() {
  executor_.set_observer(nullptr);
}

void StepTimer::trace_next() {
  trace_next_ = measure_next_ = true;
}

void StepTimer::begin() {
  if (measure_next_) clock_.measure();
  executor_.set_observer(&recorder_);
  recorder_.begin_step(trace_next_);
  measure_next_ = trace_next_ = false;
}

StepSplit StepTimer::end() {
  recorder_.end_step();
  executor_.set_observer(nullptr);
  exchange();
  return split_step(recorder_.times(), last_);
}

void StepTimer::exchange() {
  const StepTimes& times = recorder_.times();
  const size_t count = times.transfers.size();
  std::vector<double> mine(count + 1);  // exact: a run takes less than 2^53 ns
  for (size_t i = 0; i < count; ++i) {
    mine[i] = static_cast<double>(clock_.run_ns(times.transfers[i].start_ns));
  }
  mine[count] = static_cast<double>(clock_.run_ns(times.end_ns));
  Communicator& comm = executor_.comm();
  std::vector<double> last = mine;
  const std::vector<double> all = comm.size() == 1 ? mine : comm.gather_all(mine);
  for (size_t i = 0; i < all.size(); ++i)
    last[i % mine.size()] = std::max(last[i % mine.size()], all[i]);

  last_.started_ns.resize(count);
  for (size_t i = 0; i < count; ++i) {
    last_.started_ns[i] = clock_.here_ns(static_cast<int64_t>(last[i]));
  }
  last_.ended_ns = clock_.here_ns(static_cast<int64_t>(last[count]));
  const auto rank_0_ended = static_cast<int64_t>(all[count]);
  if (rank_0_ended - measured_at_ < kMeasureEveryNs) return;
  measured_at_ = rank_0_ended;
  measure_next_ = true;
}

}  // namespace memwall
