#include "runtime/exec/program_segments.h"

#include "runtime/base/error.h"

namespace memwall {
namespace {

// Below so many kernels one launch of all is no gain.
constexpr int64_t kLeastLaunches = 4;

// At least one a step, of each iteration of a body.
int64_t launches_of(const Program& program, const Step& step) {
  if (step.op != Op::kChunked) return 1;
  const Body& body = program.bodies[static_cast<size_t>(step.body)];
  return body.count * static_cast<int64_t>(body.steps.size());
}

bool depends_on_micro_step(const Program& program, const Step& step) {
  if (step.op == Op::kChunked) {
    for (const Step& inner : program.bodies[static_cast<size_t>(step.body)].steps) {
      if (depends_on_micro_step(program, inner)) return true;
    }
  }
  return step.accumulate == Accumulate::kUnlessFirstMicroStep ||
         step.accumulate == Accumulate::kUnlessFirstOfBoth;
}

void complete(const Program& program, ProgramSegment& segment) {
  int64_t launches = 0;
  for (size_t i = segment.first; i < segment.end; ++i) {
    const Step& step = program.steps[i];
    launches += launches_of(program, step);
    segment.micro_step_counts |= depends_on_micro_step(program, step);
  }
  segment.is_captured = segment.is_captured && launches >= kLeastLaunches;
  const std::string& first = program.steps[segment.first].name;
  const std::string& last = program.steps[segment.end - 1].name;
  segment.name = segment.end - segment.first == 1 ? first : first + " ... " + last;
}

std::vector<ProgramSegment> segments_of(const Program& program, bool holds_transfers) {
  std::vector<ProgramSegment> out;
  const size_t count = program.steps.size();
  for (size_t i = 0; i < count; ++i) {
    const Step& step = program.steps[i];
    const bool is_transfer = step.stream == Stream::kCommunication && !holds_transfers;
    const bool cuts = is_transfer || (!step.waits.empty() && !holds_transfers);
    if (out.empty() || cuts || !out.back().is_captured) {
      out.push_back({.first = i, .is_captured = !is_transfer});
    }
    out.back().end = i + 1;
  }
  for (ProgramSegment& segment : out) {
    segment.ends_program = holds_transfers && segment.end == count;
    complete(program, segment);
  }
  return out;
}

}  // namespace

ProgramSegments::ProgramSegments(const Plan& plan, Device& device, bool holds_transfers)
    : plan_(plan), device_(device), graphs_(*device.graphs()) {
  for (const Program& program : plan.programs) {
    segments_.push_back(segments_of(program, holds_transfers));
  }
}

ProgramSegments::~ProgramSegments() {
  for (const auto& [key, captured] : captured_) {
    if (captured.graph) graphs_.forget(*captured.graph);
  }
}

const std::vector<ProgramSegment>& ProgramSegments::of(const Program& program) const {
  const auto index = static_cast<size_t>(&program - plan_.programs.data());
  check(index < segments_.size(), "a program of another plan", program.name);
  return segments_[index];
}

void ProgramSegments::run(const Program& program, const ProgramSegment& segment, int64_t micro_step,
                          const void* observer, const std::function<void(Way)>& walk) {
  const bool later = segment.micro_step_counts && micro_step > 0;
  Captured& captured = captured_[{&program, segment.first, later, observer}];
  if (captured.graph) return replay(captured, segment, walk);
  if (captured.has_run) return capture(captured, segment, walk);
  walk(Way::kOrdinary);
  captured.has_run = true;
}

void ProgramSegments::capture(Captured& captured, const ProgramSegment& segment,
                              const std::function<void(Way)>& walk) {
  try {
    graphs_.begin_capture();
    walk(Way::kCaptured);
    captured.graph = graphs_.end_capture();
  } catch (const Error& error) {
    graphs_.abandon_capture();
    throw Error(std::string("while '") + segment.name + "' was captured: " + error.what(), "",
                "run.cuda_graphs: false queues steps one by one", error.code());
  } catch (...) {
    graphs_.abandon_capture();
    throw;
  }
}

void ProgramSegments::replay(const Captured& captured, const ProgramSegment& segment,
                             const std::function<void(Way)>& walk) {
  device_.enter(segment.name.c_str());
  graphs_.begin_launch(*captured.graph);
  try {
    walk(Way::kReplayed);
  } catch (...) {
    graphs_.end_launch();
    throw;
  }
  check(graphs_.end_launch(), "a replay that marks otherwise than its capture", segment.name);
  device_.leave();
}

}  // namespace memwall
