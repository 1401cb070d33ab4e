#include "runtime/train/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>

#include "comm/host.h"
#include "runtime/base/hash.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

enum Track : int { kComputeTrack, kCommunicationTrack, kWaitTrack, kProgressTrack, kStepTrack };
constexpr std::array<std::string_view, 5> kTracks = {"compute", "communication", "waits",
                                                     "progress", "step"};
constexpr int64_t kLeastProgressNs = 1000;
constexpr int64_t kMostTransfers = 1'000'000;  // of a step: arrows are numbered

double microseconds(int64_t ns) {
  return static_cast<double>(ns) / 1e3;
}

// Appends the events of a step.
class StepEvents {
 public:
  StepEvents(int64_t step, int64_t rank, int64_t ranks, const StepTimer& timer)
      : step_(step), rank_(rank), ranks_(ranks), timer_(timer), times_(timer.times()) {}

  // The whole, and in it programs and input in the order in which they came.
  void add_step(const StepSplit& split) {
    const ClockOffset& offset = timer_.clock().offset();
    add(kStepTrack, fmt::format("step {}", step_), times_.begin_ns,
        times_.begin_ns + split.total_ns,
        {{"step", step_},
         {"compute_us", microseconds(split.compute_ns)},
         {"exposed_communication_us", microseconds(split.exposed_communication_ns)},
         {"wait_us", microseconds(split.wait_ns)},
         {"clock_offset_ns", offset.offset_ns},
         {"clock_uncertainty_ns", offset.uncertainty_ns}});
    size_t next = 0;
    for (const WorkSpan& work : times_.work) {
      if (work.work != Work::kInput) continue;
      for (; next < times_.programs.size() && times_.programs[next].begin_ns < work.begin_ns;) {
        add_program(times_.programs[next++]);
      }
      add(kStepTrack, "input", work.begin_ns, work.end_ns, {{"step", step_}});
    }
    while (next < times_.programs.size()) add_program(times_.programs[next++]);
  }

  void add_compute() {
    for (const WorkSpan& work : times_.work) {
      if (work.work != Work::kCompute) continue;
      const Step& step = plan_step(work.program, work.step);
      add(kComputeTrack, step.name, work.begin_ns, work.end_ns,
          args(work.program, step, step.dram_bytes));
      add_arrow_ends(work);
    }
  }

  void add_progress() {
    for (const WorkSpan& work : times_.work) {
      if (work.work != Work::kProgress || work.end_ns - work.begin_ns < kLeastProgressNs) continue;
      add(kProgressTrack, plan_step(work.program, work.step).name, work.begin_ns, work.end_ns,
          {{"step", step_}});
    }
  }

  void add_transfers() {
    int64_t complete = times_.begin_ns;
    for (size_t i = 0; i < times_.transfers.size(); ++i) {
      const TransferSpan& t = times_.transfers[i];
      const Step& step = plan_step(t.program, t.step);
      Json more = args(t.program, step, std::max(step.inputs[0].bytes, step.outputs[0].bytes));
      more["started_us"] = time(t.start_ns);
      more["last_started_us"] = time(timer_.last().started_ns[i]);
      const int64_t begin = std::clamp(complete, t.start_ns, t.completed_ns);
      add(kCommunicationTrack, step.name, begin, t.completed_ns, std::move(more));
      add_arrow("s", kCommunicationTrack, begin, i);
      complete = t.completed_ns;
    }
  }

  void add_waits(const StepSplit& split) {
    for (const WaitSpan& wait : times_.waits) {
      const auto index = static_cast<size_t>(wait.transfer);
      const TransferSpan& t = times_.transfers[index];
      const auto& steps = times_.programs[static_cast<size_t>(t.program)].program->steps;
      const auto waiting = static_cast<size_t>(wait.step);
      const int64_t for_ranks = waited_for_ranks_ns(wait, timer_.last().started_ns[index]);
      add(kWaitTrack, plan_step(t.program, t.step).name, wait.begin_ns, wait.end_ns,
          {{"step", step_},
           {"before", waiting < steps.size() ? steps[waiting].name : "the program's end"},
           {"wait_us", microseconds(for_ranks)},
           {"exposed_us", microseconds(wait.end_ns - wait.begin_ns - for_ranks)}});
    }
    const int64_t end = times_.begin_ns + split.total_ns;
    if (end > times_.end_ns) {
      add(kWaitTrack, "the last rank's end", times_.end_ns, end, {{"step", step_}});
    }
  }

  std::vector<Json> events;

 private:
  double time(int64_t here_ns) const { return microseconds(timer_.clock().run_ns(here_ns)); }

  const Step& plan_step(int32_t program, int32_t step) const {
    return times_.programs[static_cast<size_t>(program)].program->steps[static_cast<size_t>(step)];
  }

  Json args(int32_t program, const Step& step, int64_t bytes) const {
    const ProgramSpan& span = times_.programs[static_cast<size_t>(program)];
    return {{"op", op_name(step.op)},        {"bytes", bytes},
            {"flops", step.flops},           {"program", span.program->name},
            {"micro_step", span.micro_step}, {"step", step_}};
  }

  void add(Track track, std::string_view name, int64_t begin_ns, int64_t end_ns, Json args) {
    events.push_back({{"name", name},
                      {"cat", kTracks[track]},
                      {"ph", "X"},
                      {"pid", rank_},
                      {"tid", static_cast<int>(track)},
                      {"ts", time(begin_ns)},
                      {"dur", microseconds(end_ns - begin_ns)},
                      {"args", std::move(args)}});
  }

  void add_program(const ProgramSpan& span) {
    add(kStepTrack, span.program->name, span.begin_ns, span.end_ns,
        {{"step", step_}, {"micro_step", span.micro_step}});
  }

  void add_arrow(std::string_view phase, Track track, int64_t at_ns, size_t transfer) {
    Json event = {
        {"name", "transfer"},
        {"cat", "transfer"},
        {"ph", phase},
        {"id", (step_ * ranks_ + rank_) * kMostTransfers + static_cast<int64_t>(transfer)},
        {"pid", rank_},
        {"tid", static_cast<int>(track)},
        {"ts", time(at_ns)}};
    if (phase == "f") event["bp"] = "e";
    events.push_back(std::move(event));
  }

  // Of the transfers that the step had waited for. Waits are in order.
  void add_arrow_ends(const WorkSpan& work) {
    while (next_wait_ < times_.waits.size()) {
      const WaitSpan& wait = times_.waits[next_wait_];
      if (wait.end_ns > work.begin_ns) return;
      const bool its = wait.step == work.step &&
                       times_.transfers[static_cast<size_t>(wait.transfer)].program == work.program;
      if (its) {
        add_arrow("f", kComputeTrack, work.begin_ns, static_cast<size_t>(wait.transfer));
      }
      ++next_wait_;
    }
  }

  int64_t step_, rank_, ranks_;
  const StepTimer& timer_;
  const StepTimes& times_;
  size_t next_wait_ = 0;
};

}  // namespace

std::vector<Json> trace_events(int64_t step, int64_t rank, int64_t ranks, const StepTimer& timer,
                               const StepSplit& split) {
  StepEvents out(step, rank, ranks, timer);
  out.add_step(split);
  out.add_compute();
  out.add_transfers();
  out.add_waits(split);
  out.add_progress();
  return std::move(out.events);
}

TraceFile::TraceFile(const std::string& run_dir, const Executor& executor, uint64_t plan_hash)
    : folder_(run_dir + "/trace"), rank_(executor.comm().rank()), ranks_(executor.comm().size()) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) throw Error("cannot create: " + error.message(), folder_);
  file_.emplace(fmt::format("{}/rank-{:05d}.json", folder_, rank_));
  const Json other = {{"plan_hash", hash_hex(plan_hash)}, {"ranks", ranks_}};
  text_ = fmt::format("{{\"displayTimeUnit\": \"ns\",\n\"otherData\": {},\n\"traceEvents\": [",
                      other.dump());
  const auto metadata = [&](std::string_view name, int track, Json args) {
    add_event(
        {{"name", name}, {"ph", "M"}, {"pid", rank_}, {"tid", track}, {"args", std::move(args)}});
  };
  metadata("process_name", 0, {{"name", fmt::format("rank {} on {}", rank_, host_name())}});
  metadata("process_sort_index", 0, {{"sort_index", rank_}});
  for (size_t track = 0; track < kTracks.size(); ++track) {
    metadata("thread_name", static_cast<int>(track), {{"name", kTracks[track]}});
    metadata("thread_sort_index", static_cast<int>(track), {{"sort_index", track}});
  }
}

void TraceFile::add(int64_t step, const StepTimer& timer, const StepSplit& split) {
  for (const Json& event : trace_events(step, rank_, ranks_, timer, split)) add_event(event);
  write();
}

void TraceFile::commit() {
  text_ += "\n]}\n";
  write();
  file_->commit();
}

void TraceFile::add_event(const Json& event) {
  text_ += (first_ ? "\n" : ",\n") + event.dump();
  first_ = false;
}

void TraceFile::write() {
  file_->write(written_, std::as_bytes(std::span(text_)));
  written_ += static_cast<int64_t>(text_.size());
  text_.clear();
}

}  // namespace memwall
