#include "runtime/exec/executor.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <string>

#include "runtime/base/math.h"

namespace memwall {
namespace {

constexpr size_t kMaxOperands = 16;

}  // namespace

bool accumulates(const Step& step, int64_t micro_step, int64_t iteration) {
  const bool first_of_period = iteration % step.accumulate_period == 0;
  switch (step.accumulate) {
    case Accumulate::kNever: return false;
    case Accumulate::kAlways: return true;
    case Accumulate::kUnlessFirstMicroStep: return micro_step > 0;
    case Accumulate::kUnlessFirstOfPeriod: return !first_of_period;
    case Accumulate::kUnlessFirstOfBoth: return !first_of_period || micro_step > 0;
  }
  return false;
}

Executor::Executor(const Plan& plan, Communicator& comm, int threads,
                   const Accelerator& accelerator)
    : plan_(plan),
      comm_(comm),
      threads_(threads),
      arena_(plan.arena_bytes),
      device_(accelerator.device),
      arena_memory_(accelerator.arena != nullptr ? accelerator.arena : device_),
      kernel_(device_ != nullptr ? accelerator.kernel : &kernel_of),
      transfers_(accelerator.transfers != nullptr ? *accelerator.transfers : comm),
      memory_(arena_.data()),
      exceptions_at_start_(std::uncaught_exceptions()) {
  check(comm.size() == plan.ranks, "the plan was made for another number of ranks");
  check(comm.size() == 1 || transfers_.transport() == plan.fabric.transport,
        "the plan was made for another transport");
  if (device_ == nullptr) return;
  check(plan.target == device_->info().target, "the plan was made for another target", plan.target);
  const int64_t before = device_->free_bytes();
  const int64_t wanted = round_up(plan.arena_bytes, plan.page_bytes);
  memory_ = arena_memory_->allocate(wanted);
  device_free_bytes_ = device_->free_bytes();
  device_arena_bytes_ = before - device_free_bytes_;
  if (accelerator.arena != nullptr) {
    device_rounding_bytes_ = std::max(device_arena_bytes_ - wanted, int64_t{0});
    device_arena_bytes_ -= device_rounding_bytes_;
  }
  for (const Program& program : plan.programs) {
    for (int32_t slot : program.host_slots) {
      const int64_t bytes = plan.slots[static_cast<size_t>(slot)].bytes;
      if (bytes <= kMostParcelBytes) parcel_bytes_ = std::max(parcel_bytes_, bytes);
    }
  }
  parcel_bytes_ = round_up(parcel_bytes_, int64_t{64});
  if (parcel_bytes_ > 0) {
    parcels_ = device_->allocate_host(static_cast<int64_t>(kParcels) * parcel_bytes_);
  }
  if (accelerator.graphs) {
    check(device_->graphs() != nullptr, "a device without graphs is to launch them");
    segments_.emplace(plan, *device_, transfers_.transport() == Transport::kNccl);
  }
}

Executor::~Executor() {
  if (device_ == nullptr) return;
  // To free memory is to wait for what is queued on it, which may need ranks that wait in vain for
  // this one.
  if (std::uncaught_exceptions() > exceptions_at_start_) transfers_.abandon();
  segments_.reset();
  arena_memory_->release(memory_);
  if (parcels_ != nullptr) device_->release_host(parcels_);
}

int64_t Executor::device_growth_bytes() const {
  return device_ == nullptr ? 0 : device_free_bytes_ - device_->free_bytes();
}

int64_t Executor::device_graph_bytes() const {
  return segments_ ? device_->graphs()->bytes() : 0;
}

void Executor::bring(const Tensor& storage, void* to) const {
  const std::ptrdiff_t offset = static_cast<std::byte*>(storage.data) - arena_.data();
  naming_step([&] {
    // A copy to memory that is not pinned blocks until its turn: what comes before it is waited for
    // here, where a rank that does not answer is noticed.
    wait_for_device(device_->mark(Device::Queue::kCompute));
    device_->copy(Device::Queue::kCompute, to, memory_ + offset,
                  storage.elements() * size_of(storage.dtype));
    wait_for_device(device_->mark(Device::Queue::kCompute));
  });
}

Tensor Executor::fetch(const Tensor& storage) const {
  if (device_ != nullptr) bring(storage, storage.data);
  return storage;
}

Tensor Executor::fetch_into(std::vector<std::byte>& memory, const Tensor& storage) const {
  if (device_ == nullptr) return storage;
  memory.resize(static_cast<size_t>(storage.elements() * size_of(storage.dtype)));
  bring(storage, memory.data());
  return {memory.data(), storage.dtype, storage.shape};
}

void Executor::send(const Tensor& storage) {
  if (device_ == nullptr) return;
  constexpr auto kQueue = Device::Queue::kCompute;
  const std::ptrdiff_t offset = static_cast<std::byte*>(storage.data) - arena_.data();
  const int64_t bytes = storage.elements() * size_of(storage.dtype);
  naming_step([&] {
    if (bytes > parcel_bytes_) {  // from memory that is not pinned: see fetch
      wait_for_device(device_->mark(kQueue));
      device_->copy(kQueue, memory_ + offset, storage.data, bytes);
      return;
    }
    const size_t parcel = next_parcel_++ % kParcels;
    if (next_parcel_ > kParcels) wait_for_device(sent_[parcel]);
    std::byte* const from = parcels_ + static_cast<int64_t>(parcel) * parcel_bytes_;
    std::memcpy(from, storage.data, static_cast<size_t>(bytes));
    device_->copy(kQueue, memory_ + offset, from, bytes);
    sent_[parcel] = device_->mark(kQueue);
  });
}

void Executor::forget_copies() {
  if (device_ != nullptr) arena_.discard();
}

// An accelerator reports failures late: what failed may be any step up to the one begun last.
template <class Body>
void Executor::naming_step(const Body& body) const {
  try {
    body();
  } catch (const Error& error) {
    if (device_ == nullptr) throw;
    throw Error(error.what(), "in '" + std::string(activity_) + "' or a step before it", "",
                error.code());
  }
}

// So that transfers get on, and their failures end the wait.
void Executor::wait_for_device(Device::Mark mark) const {
  while (!device_->reached(mark)) transfers_.progress();
}

Tensor Executor::slot(const Slot& slot) const {
  return {arena_.data() + slot.offset, slot.dtype, slot.shape};
}

Tensor Executor::slot(SlotKind kind, int64_t unit) const {
  const Slot* found = plan_.find_slot(kind, unit);
  check(found != nullptr, "the plan has no such slot", std::string(name_of(kind)));
  return slot(*found);
}

Tensor Executor::resolve(const Operand& o, int64_t iteration, std::byte* arena) const {
  std::byte* address =
      arena + o.base + comm_.rank() * o.rank_stride + iteration / o.period * o.iteration_bytes;
  return {address, o.dtype, o.shape};
}

void Executor::run_step(const Program& program, const Step& step, int64_t micro_step,
                        int64_t iteration) {
  if (step.op == Op::kChunked) {
    const Body& body = program.bodies[static_cast<size_t>(step.body)];
    for (int64_t i = 0; i < body.count; ++i) {
      for (const Step& inner : body.steps) {
        if (observer_ != nullptr) observer_->before_inner(inner, i);
        run_step(program, inner, micro_step, i);
        if (observer_ != nullptr) observer_->after_inner(inner, i);
      }
    }
    return;
  }
  std::array<Tensor, kMaxOperands> tensors;
  const size_t inputs = step.inputs.size(), outputs = step.outputs.size();
  check(inputs + outputs <= kMaxOperands, "a step with too many operands", step.name);
  for (size_t k = 0; k < inputs; ++k) tensors[k] = resolve(step.inputs[k], iteration, memory_);
  for (size_t k = 0; k < outputs; ++k) {
    tensors[inputs + k] = resolve(step.outputs[k], iteration, memory_);
  }

  KernelCall call{step.attributes,
                  {tensors.data(), inputs},
                  {tensors.data() + inputs, outputs},
                  accumulates(step, micro_step, iteration),
                  iteration,
                  comm_.rank(),
                  comm_.size(),
                  nullptr,
                  {},
                  threads_,
                  step.dual,
                  device_ != nullptr ? device_->context() : nullptr};
  if (step.workspace.bytes > 0) {
    call.workspace = {static_cast<std::byte*>(resolve(step.workspace, iteration, memory_).data),
                      static_cast<size_t>(step.workspace.bytes)};
  }
  if (const auto* unit = std::get_if<UnitAttributes>(&step.attributes)) {
    call.unit = &plan_.units[static_cast<size_t>(unit->unit)];
  }
  const Kernel kernel = kernel_(step.op);
  check(kernel != nullptr, "no kernel for this op", step.name);
  kernel(call);
}

Ticket Executor::start_transfer(const Step& step) {
  const Tensor in = resolve(step.inputs[0], 0, memory_), out = resolve(step.outputs[0], 0, memory_);
  void* receive = step.workspace.bytes > 0 ? resolve(step.workspace, 0, memory_).data : nullptr;
  switch (step.op) {
    case Op::kAllGather:
      return transfers_.all_gather(in.data, out.data, step.inputs[0].bytes, step.algorithm);
    case Op::kReduceScatter:
      return transfers_.reduce_scatter(in.data, out.data, out.elements(), out.dtype, receive,
                                       step.algorithm);
    case Op::kAllReduce:
      check(in.data == out.data, "an all-reduce is in place", step.name);
      return transfers_.all_reduce(out.as<double>(), out.elements(), receive);
    default: throw InternalError("not a transfer", step.name);
  }
}

void Executor::wait_for(const Program& program, size_t step, size_t waited) {
  const Ticket ticket = tickets_[waited];
  if (ticket < 0) return;
  if (observer_ != nullptr) observer_->before_wait(program, step, waited);
  transfers_.wait(ticket);
  if (observer_ != nullptr) observer_->after_wait(program, step, waited);
}

void Executor::wait_before(const Program& program, size_t step) {
  for (int32_t waited : program.steps[step].waits) {
    wait_for(program, step, static_cast<size_t>(waited));
  }
}

void Executor::wait_for_last(const Program& program) {
  if (last_transfer_ < 0) return;
  wait_for(program, program.steps.size(), static_cast<size_t>(last_transfer_));
  last_transfer_ = -1;
}

void Executor::begin_activity(const std::string& name) {
  activity_ = name.c_str();
  transfers_.set_activity(activity_);
}

// Of the segment's first step the waits are the caller's.
void Executor::run_steps(const Program& program, const ProgramSegment& segment, int64_t micro_step,
                         Way way) {
  const bool queues = way != Way::kReplayed;
  for (size_t i = segment.first; i < segment.end; ++i) {
    const Step& step = program.steps[i];
    if (queues) begin_activity(step.name);
    if (i > segment.first) wait_before(program, i);
    if (observer_ != nullptr) observer_->before(program, i);
    if (device_ != nullptr && queues) device_->enter(step.name.c_str());
    if (step.stream == Stream::kCommunication) {
      tickets_[i] = start_transfer(step);
      last_transfer_ = static_cast<int64_t>(i);
    } else {
      if (queues) run_step(program, step, micro_step, 0);
      if (observer_ != nullptr) observer_->before_progress(program, i);
      if (way == Way::kOrdinary) transfers_.progress();
    }
    if (device_ != nullptr && queues) device_->leave();
    if (observer_ != nullptr) observer_->after(program, i);
  }
  if (segment.ends_program) wait_for_last(program);
}

void Executor::run_segment(const Program& program, const ProgramSegment& segment,
                           int64_t micro_step) {
  begin_activity(program.steps[segment.first].name);
  wait_before(program, segment.first);
  if (!segment.is_captured) return run_steps(program, segment, micro_step, Way::kOrdinary);
  begin_activity(segment.name);
  segments_->run(program, segment, micro_step, observer_,
                 [&](Way way) { run_steps(program, segment, micro_step, way); });
  transfers_.progress();
}

void Executor::run_program(const Program& program, int64_t micro_step) {
  tickets_.assign(program.steps.size(), -1);
  last_transfer_ = -1;
  if (observer_ != nullptr) observer_->before_program(program, micro_step);
  if (segments_ && (observer_ == nullptr || !observer_->needs_each_step())) {
    for (const ProgramSegment& segment : segments_->of(program))
      run_segment(program, segment, micro_step);
  } else {
    const ProgramSegment whole{.end = program.steps.size(), .is_captured = false};
    if (whole.end > 0) run_segment(program, whole, micro_step);
  }
  wait_for_last(program);
  if (observer_ != nullptr) observer_->after_program(program);
}

void Executor::run(const Program& program, int64_t micro_step) {
  naming_step([&] { run_program(program, micro_step); });
}

}  // namespace memwall
