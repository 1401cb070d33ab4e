// Notes start and end of every plan step, transfer and wait of a training step on this rank.
// Allocates nothing while the step runs. On a GPU compute and waits are timed by its own marks,
// which are read when the step is over; a step of very many pieces waits for its GPU now and then.
// Unless work is kept piece by piece, compute steps between which nothing is waited for are one.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/exec/executor.h"
#include "runtime/train/step_times.h"

namespace memwall {

class StepRecorder final : public StepObserver {
 public:
  // Has room for any training step of the executor's plan. The executor must outlive it.
  explicit StepRecorder(const Executor& executor);

  // From here on; `keeps_work`: each piece of work too, not only their sums.
  void begin_step(bool keeps_work);
  void input(int64_t begin_ns, int64_t end_ns);
  void end_step();
  const StepTimes& times() const { return times_; }

  bool needs_each_step() const override { return keeps_work_; }
  void before_program(const Program& program, int64_t micro_step) override;
  void after_program(const Program& program) override;
  void before(const Program& program, size_t step) override;
  void before_progress(const Program& program, size_t step) override;
  void after(const Program& program, size_t step) override;
  void before_wait(const Program& program, size_t step, size_t waited) override;
  void after_wait(const Program& program, size_t step, size_t waited) override;

 private:
  int32_t program() const { return static_cast<int32_t>(times_.programs.size()) - 1; }
  void keep(Work work, size_t step, int64_t begin_ns, int64_t end_ns);
  Device::Mark mark() const;
  void begin_spans();
  void begin_compute(size_t step);
  void end_compute();
  void read_marks();

  const Executor& executor_;
  StepTimes times_;
  size_t most_work_ = 0;              // pieces of a step
  std::vector<int32_t> transfer_of_;  // by step of the running program, where it is a transfer
  size_t completed_ = 0;              // transfers whose completion is noted
  bool keeps_work_ = false, updates_ = false;
  int64_t begun_ns_ = 0, computed_ns_ = 0, wait_begun_ns_ = 0;
  // Of a GPU: what its compute queue did between two marks.
  struct Span {
    bool waits, updates;
    int32_t program, step;
    Device::Mark begin, end;
  };
  std::vector<Span> spans_;
  bool computes_ = false;        // the last span is of compute, and without its end
  Device::Mark first_mark_ = 0;  // what those are counted from
  int64_t first_ns_ = 0;
  size_t read_waits_ = 0;
};

}  // namespace memwall
