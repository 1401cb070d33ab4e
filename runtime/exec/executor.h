// Walks the steps of a plan. It decides nothing.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "memory/arena.h"
#include "runtime/base/device.h"
#include "runtime/exec/program_segments.h"
#include "runtime/kernels/kernel.h"
#include "runtime/plan/plan.h"

namespace memwall {

// Called around programs, their steps and their waits: tests poison and trace, the trainer
// measures.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  // False: where a device launches steps together, one call after another is made for all of them
  // at once, none for steps of bodies, and what a step has written is not there yet.
  virtual bool needs_each_step() const { return true; }
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

// What a plan runs on that is not the CPU. All must outlive the executor.
struct Accelerator {
  Device* device = nullptr;
  Kernel (*kernel)(Op) = nullptr;
  Communicator* transfers = nullptr;  // of the device's memory; null with one rank
  ArenaMemory* arena = nullptr;       // where the arena comes from; null: the device
  bool graphs = false;                // the device launches segments of programs as graphs
};

class Executor {
 public:
  // `plan` and `comm` must outlive the executor. Allocates the arena: of the accelerator, where one
  // is given, whose transfers then move what the plan moves; `comm` does the rest.
  Executor(const Plan& plan, Communicator& comm, int threads, const Accelerator& accelerator = {});
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs a program; `micro_step` counts from 0 within a training step. Returns when everything,
  // transfers included, is complete; on an accelerator, when it is queued: `fetch` waits for it.
  void run(const Program& program, int64_t micro_step = 0);

  // The storage of a slot in this rank's arena. On an accelerator that is a copy on the host:
  // `fetch` brings it up to date, and `send` sends it. Pages of it that are never touched take no
  // memory.
  Tensor slot(const Slot& slot) const;
  // Where an operand of a program's own step lies in this rank's arena, likewise.
  Tensor operand(const Operand& operand) const { return resolve(operand, 0, arena_.data()); }
  // On the CPU these do nothing but return the storage.
  Tensor fetch(const Tensor& storage) const;
  Tensor fetch(const Slot& s) const { return fetch(slot(s)); }
  Tensor fetch(SlotKind kind, int64_t unit = -1) const { return fetch(slot(kind, unit)); }
  // The same without a copy that stays: into `memory`, where the device's is not the host's.
  Tensor fetch_into(std::vector<std::byte>& memory, const Tensor& storage) const;
  void send(const Tensor& storage);
  void send(SlotKind kind, int64_t unit = -1) { send(slot(kind, unit)); }
  // Gives back the memory of the host's copies.
  void forget_copies();
  // The slot of that kind; throws InternalError where the plan has none.
  Tensor slot(SlotKind kind, int64_t unit = -1) const;

  const Plan& plan() const { return plan_; }
  Communicator& comm() const { return comm_; }
  // What moves what the plan moves.
  Communicator& transfers() const { return transfers_; }
  Device* device() const { return device_; }  // null: the CPU
  // What the driver says the arena took of the device, and what has been taken since.
  int64_t device_arena_bytes() const { return device_arena_bytes_; }
  // ... and what memory that is not the device's own (Accelerator::arena) rounded it up by.
  int64_t device_rounding_bytes() const { return device_rounding_bytes_; }
  int64_t device_growth_bytes() const;
  int64_t device_graph_bytes() const;  // of that growth, what captured segments have taken
  const Arena& arena() const { return arena_; }
  std::byte* arena_data() const { return arena_.data(); }
  // Of a transfer that the running program, or the last one, has started; else -1.
  Ticket ticket(size_t step) const { return tickets_[step]; }
  void set_observer(StepObserver* observer) { observer_ = observer; }

 private:
  void run_program(const Program& program, int64_t micro_step);
  void run_segment(const Program& program, const ProgramSegment& segment, int64_t micro_step);
  void run_steps(const Program& program, const ProgramSegment& segment, int64_t micro_step,
                 Way way);
  void begin_activity(const std::string& name);
  void run_step(const Program& program, const Step& step, int64_t micro_step, int64_t iteration);
  Ticket start_transfer(const Step& step);
  void wait_for(const Program& program, size_t step, size_t waited);
  void wait_before(const Program& program, size_t step);
  void wait_for_last(const Program& program);
  void bring(const Tensor& storage, void* to) const;
  Tensor resolve(const Operand& operand, int64_t iteration, std::byte* arena) const;
  void wait_for_device(Device::Mark mark) const;

  // Pinned memory that slots are sent from, a parcel after the other, so that the host may go on.
  // Larger slots are waited for.
  static constexpr size_t kParcels = 8;
  static constexpr int64_t kMostParcelBytes = int64_t{1} << 20;
  std::byte* parcels_ = nullptr;
  int64_t parcel_bytes_ = 0;
  std::array<Device::Mark, kParcels> sent_{};
  size_t next_parcel_ = 0;
  template <class Body>
  void naming_step(const Body& body) const;

  const Plan& plan_;
  Communicator& comm_;
  int threads_;
  Arena arena_;
  Device* const device_;
  ArenaMemory* const arena_memory_;
  Kernel (*const kernel_)(Op);
  Communicator& transfers_;
  std::byte* memory_;  // the arena that programs run in
  int64_t device_arena_bytes_ = 0, device_rounding_bytes_ = 0, device_free_bytes_ = 0;
  StepObserver* observer_ = nullptr;
  std::optional<ProgramSegments> segments_;  // none: steps are queued one by one
  std::vector<Ticket> tickets_;              // of the running program, by step
  int64_t last_transfer_ = -1;         // step that started the last one that is not waited for
  const char* activity_ = "start-up";  // the step, or the segment, that was begun last
  const int exceptions_at_start_;
};

}  // namespace memwall
