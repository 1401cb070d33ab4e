// Walks the steps of a plan. It decides nothing.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "memory/arena.h"
#include "runtime/kernels/kernel.h"
#include "runtime/plan/plan.h"

namespace memwall {

// Called around every step of a program: tests poison and trace, the trainer measures.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void before(const Program&, size_t /*step*/) {}
  virtual void after(const Program&, size_t /*step*/) {}
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
  void set_observer(StepObserver* observer) { observer_ = observer; }

 private:
  void run_step(const Program& program, const Step& step, int64_t micro_step, int64_t iteration);
  Ticket start_transfer(const Step& step);
  Tensor resolve(const Operand& operand, int64_t iteration) const;

  const Plan& plan_;
  Communicator& comm_;
  int threads_;
  Arena arena_;
  StepObserver* observer_ = nullptr;
  std::vector<Ticket> tickets_;  // of the running program, by step
};

}  // namespace memwall
