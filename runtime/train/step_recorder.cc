#include "runtime/train/step_recorder.h"

#include <algorithm>

#include "runtime/train/clock_offsets.h"

namespace memwall {
namespace {

// Spans kept on a GPU, two marks each: with those of the longest program fewer than it remembers.
constexpr size_t kMostSpans = 4096;

struct Room {
  size_t programs = 0, transfers = 0, waits = 0, work = 0;
};

Room room_for(const Plan& plan, bool curvature) {
  Room room;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    ++room.programs;
    room.waits += 1;  // at the program's end
    room.work += 1;   // input
    for (const Step& step : plan.program(run.program).steps) {
      room.transfers += step.stream == Stream::kCommunication ? 1 : 0;
      room.waits += step.waits.size();
      room.work += 2;
    }
  }
  return room;
}

}  // namespace

StepRecorder::StepRecorder(const Executor& executor) : executor_(executor) {
  const Plan& plan = executor.plan();
  for (const bool curvature : {false, true}) {
    const auto step = training_step(plan.micro_steps, plan.probes, curvature);
    if (!plan.has_program(step.front().program)) continue;
    const Room room = room_for(plan, curvature);
    times_.programs.reserve(room.programs);
    times_.transfers.reserve(room.transfers);
    times_.waits.reserve(room.waits);
    most_work_ = std::max(most_work_, room.work);
  }
  size_t steps = 0;
  for (const Program& program : plan.programs) steps = std::max(steps, program.steps.size());
  transfer_of_.assign(steps, -1);
  if (executor.device() != nullptr) spans_.reserve(most_work_ + times_.waits.capacity());
}

// Of the GPU's compute queue, or nothing.
Device::Mark StepRecorder::mark() const {
  Device* const device = executor_.device();
  return device != nullptr ? device->time(Device::Queue::kCompute) : -1;
}

// The queue was empty at the first mark, so that the host's clock tells its time.
void StepRecorder::read_marks() {
  constexpr double kNs = 1e9;
  Device& device = *executor_.device();
  const auto ns = [&](Device::Mark mark) {
    const double seconds = device.seconds_between(first_mark_, mark);
    return first_ns_ + static_cast<int64_t>(seconds * kNs);
  };
  for (const Span& span : spans_) {
    const int64_t begin = ns(span.begin), end = ns(span.end);
    if (span.waits) {
      times_.waits[read_waits_].begin_ns = begin;
      times_.waits[read_waits_++].end_ns = end;
      continue;
    }
    (span.updates ? times_.update_ns : times_.compute_ns) += end - begin;
    if (keeps_work_) times_.work.push_back({Work::kCompute, span.program, span.step, begin, end});
  }
}

void StepRecorder::begin_step(bool keeps_work) {
  times_.programs.clear();
  times_.transfers.clear();
  times_.waits.clear();
  times_.work.clear();
  if (keeps_work) times_.work.reserve(most_work_);
  times_.input_ns = times_.compute_ns = times_.update_ns = times_.progress_ns = 0;
  completed_ = 0;
  keeps_work_ = keeps_work;
  times_.begin_ns = steady_ns();
  read_waits_ = 0;
  begin_spans();
}

// The compute queue is empty then, so that its first mark has the time.
void StepRecorder::begin_spans() {
  spans_.clear();
  computes_ = false;
  if (Device* const device = executor_.device()) device->finish(Device::Queue::kCompute);
  first_ns_ = steady_ns();
  first_mark_ = mark();
}

void StepRecorder::begin_compute(size_t step) {
  if (computes_) return;
  spans_.push_back({false, updates_, program(), static_cast<int32_t>(step), mark(), 0});
  computes_ = true;
}

void StepRecorder::end_compute() {
  if (computes_) spans_.back().end = mark();
  computes_ = false;
}

void StepRecorder::end_step() {
  times_.end_ns = steady_ns();
  if (executor_.device() != nullptr) read_marks();
}

void StepRecorder::keep(Work work, size_t step, int64_t begin_ns, int64_t end_ns) {
  if (!keeps_work_) return;
  times_.work.push_back({work, program(), static_cast<int32_t>(step), begin_ns, end_ns});
}

void StepRecorder::input(int64_t begin_ns, int64_t end_ns) {
  times_.input_ns += end_ns - begin_ns;
  keep(Work::kInput, 0, begin_ns, end_ns);
}

void StepRecorder::before_program(const Program& program, int64_t micro_step) {
  updates_ = is_update(program);
  if (spans_.size() > kMostSpans) {
    const Device::Mark now = executor_.device()->mark(Device::Queue::kCompute);
    while (!executor_.device()->reached(now)) executor_.transfers().progress();
    read_marks();
    begin_spans();
  }
  times_.programs.push_back({&program, micro_step, steady_ns(), 0});
}

void StepRecorder::after_program(const Program&) {
  end_compute();
  times_.programs.back().end_ns = steady_ns();
}

void StepRecorder::before(const Program& program, size_t step) {
  begun_ns_ = steady_ns();
  if (executor_.device() != nullptr && program.steps[step].stream != Stream::kCommunication) {
    begin_compute(step);
  }
  if (program.steps[step].stream != Stream::kCommunication) return;
  transfer_of_[step] = static_cast<int32_t>(times_.transfers.size());
  times_.transfers.push_back({begun_ns_, 0, this->program(), static_cast<int32_t>(step)});
  computed_ns_ = begun_ns_;
}

void StepRecorder::before_progress(const Program&, size_t step) {
  if (executor_.device() != nullptr) {
    if (keeps_work_) end_compute();
    return;
  }
  computed_ns_ = steady_ns();
  (updates_ ? times_.update_ns : times_.compute_ns) += computed_ns_ - begun_ns_;
  keep(Work::kCompute, step, begun_ns_, computed_ns_);
}

void StepRecorder::after(const Program&, size_t step) {
  if (executor_.device() != nullptr) return;
  const int64_t now = steady_ns();
  times_.progress_ns += now - computed_ns_;
  keep(Work::kProgress, step, computed_ns_, now);
}

void StepRecorder::before_wait(const Program&, size_t step, size_t) {
  wait_begun_ns_ = steady_ns();
  if (executor_.device() != nullptr) {
    end_compute();
    spans_.push_back({true, updates_, program(), static_cast<int32_t>(step), mark(), 0});
  }
}

// All transfers up to the one waited for are complete.
void StepRecorder::after_wait(const Program&, size_t step, size_t waited) {
  const int64_t now = steady_ns();
  if (executor_.device() != nullptr) spans_.back().end = mark();
  const int32_t transfer = transfer_of_[waited];
  times_.waits.push_back({wait_begun_ns_, now, transfer, static_cast<int32_t>(step)});
  for (; completed_ <= static_cast<size_t>(transfer); ++completed_) {
    TransferSpan& span = times_.transfers[completed_];
    const Ticket ticket = executor_.ticket(static_cast<size_t>(span.step));
    span.completed_ns = std::clamp(executor_.transfers().completed_ns(ticket), span.start_ns, now);
  }
}

}  // namespace memwall
