// Walks the steps of a plan. It decides nothing.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "memory/arena.h"
#include "runtime/kernels/kernel.h"
#include "runtime/plan/plan.h"

namespace memwall {

// Called around programs, their steps and their waits: tests poison and trace, the trainer
// measures.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void before_program(const Program&, int64_t /*micro_step*/) {}
  virtual void after_program(const Program&) {}
  virtual void before(const Program&, size_t /*step*/) {}
  virtual void after(const Program&, size_t /*step*/) {}
  // Between the two calls for a compute step: its results are there, and transfers get on next.
  virtual void before_progress(const Program&, size_t /*step*/) {}
  // Around each wait for a transfer, `waited`, before the calls for the step that waits; at the
  // program's end `step` is the number of its steps.
  virtual void before_wait(const Program&, size_t /*step*/, size_t /*waited*/) {}
  virtual void after_wait(const Program&, size_t /*step*/, size_t /*waited*/) {}
  // Around every step of a body in every iteration, between the two calls for its chunked step.
  virtual void before_inner(const Step&, int64_t /*iteration*/) {}
  virtual void after_inner(const Step&, int64_t /*iteration*/) {}
};

// Whether a step adds to its first output, in that micro-step and iteration of its body.
bool accumulates(const Step& step, int64_t micro_step, int64_t iteration);

class Executor {
 public:
  // `plan` and `comm` must outlive the executor. Allocates the arena.
  Executor(const Plan& plan, Communicator& comm, int threads);

  // Runs a program; `micro_step` counts from 0 within a training step. Returns when everything,
  // transfers included, is complete.
  void run(const Program& program, int64_t micro_step = 0);

  // The storage of a slot in this rank's arena.
  Tensor slot(const Slot& slot) const;
  // Where an operand of a program's own step lies in this rank's arena.
  Tensor operand(const Operand& operand) const { return resolve(operand, 0); }
  // The slot of that kind; throws InternalError where the plan has none.
  Tensor slot(SlotKind kind, int64_t unit = -1) const;

  const Plan& plan() const { return plan_; }
  Communicator& comm() const { return comm_; }
  const Arena& arena() const { return arena_; }
  std::byte* arena_data() const { return arena_.data(); }
  // Of a transfer that the running program, or the last one, has started; else -1.
  Ticket ticket(size_t step) const { return tickets_[step]; }
  void set_observer(StepObserver* observer) { observer_ = observer; }

 private:
  void run_step(const Program& program, const Step& step, int64_t micro_step, int64_t iteration);
  Ticket start_transfer(const Step& step);
  void wait_for(const Program& program, size_t step, size_t waited);
  Tensor resolve(const Operand& operand, int64_t iteration) const;

  const Plan& plan_;
  Communicator& comm_;
  int threads_;
  Arena arena_;
  StepObserver* observer_ = nullptr;
  std::vector<Ticket> tickets_;  // of the running program, by step
};

}  // namespace memwall
