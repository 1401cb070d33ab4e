// Where a step's time goes, by kind of op.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "runtime/exec/executor.h"

namespace memwall {

// Counts and times the steps of the programs that an executor runs while it observes. Bodies are
// entered: their steps count one by one, and their chunked step only for what the loop itself
// takes. The time before a step that waits for transfers is waiting.
class OpTimes : public StepObserver {
 public:
  struct Entry {
    int64_t calls = 0;
    double seconds = 0.0;
  };

  void before(const Program& program, size_t step) override;
  void after(const Program& program, size_t step) override;
  void before_inner(const Step& step, int64_t iteration) override;
  void after_inner(const Step& step, int64_t iteration) override;

  const Entry& of(Op op) const { return by_op_[static_cast<size_t>(op)]; }
  const Entry& waiting() const { return waiting_; }
  double seconds() const;  // of all entries
  void clear() { *this = {}; }

 private:
  using Clock = std::chrono::steady_clock;

  std::array<Entry, kOpCount> by_op_{};
  Entry waiting_;
  Clock::time_point begun_, inner_begun_, ended_;
  double inner_seconds_ = 0.0;  // of the running chunked step's body
};

}  // namespace memwall
