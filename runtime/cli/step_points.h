// What each kind of work of a training step takes, as the cost model counts it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "runtime/cost/op_cost.h"
#include "runtime/exec/executor.h"

namespace memwall {

// Times the compute steps of the programs that an executor runs while it observes: what a step
// takes until its results are there, not what transfers get done before the next one. Steps of
// equal work are one; those of a body count once for all its iterations.
class StepPoints : public StepObserver {
 public:
  explicit StepPoints(const Plan& plan);

  // The distinct work of all the plan's programs, the same on all ranks.
  const std::vector<OpWork>& work() const { return work_; }

  struct Step {
    std::vector<double> seconds;  // by work(): of one of them, the mean; 0 where none has run
    double compute_seconds = 0.0;
    double transfer_seconds = 0.0;  // starting transfers, moving them on, waiting for them
  };
  // Since the last call.
  Step take();

  void before(const Program& program, size_t step) override;
  void before_progress(const Program& program, size_t step) override;
  void after(const Program& program, size_t step) override;
  void before_wait(const Program& program, size_t step, size_t waited) override;
  void after_wait(const Program& program, size_t step, size_t waited) override;
  void before_inner(const memwall::Step& step, int64_t iteration) override;
  void after_inner(const memwall::Step& step, int64_t iteration) override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Sum {
    double seconds = 0.0;
    int64_t times = 0;
  };

  void add_work(const memwall::Step& step, int64_t launches);
  void add(const memwall::Step& step, double seconds, int64_t times);

  std::vector<OpWork> work_;
  std::map<std::tuple<Op, DType, int64_t, int64_t, int64_t>, size_t> index_;
  std::unordered_map<const memwall::Step*, size_t> index_of_step_;
  std::vector<Sum> sums_;  // by work
  double compute_seconds_ = 0.0, transfer_seconds_ = 0.0;
  Clock::time_point begun_, inner_begun_, progress_begun_, wait_begun_;
};

}  // namespace memwall
