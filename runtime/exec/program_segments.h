// The parts of programs that a device launches by one call each. A plan's steps are the same every
// time, so what a part queues is captured once and then replayed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/base/device.h"
#include "runtime/plan/plan.h"

namespace memwall {

// Steps between which the host has nothing to do.
struct ProgramSegment {
  size_t first = 0, end = 0;
  bool is_captured = true;         // else its steps are queued one by one every time
  bool ends_program = false;       // the wait at the program's end is part of it
  bool micro_step_counts = false;  // a step adds to what is there but in the first micro-step
  std::string name = {};           // "first step ... last step"
};

// How a segment's steps are gone through: queued; queued while the device captures; or not queued,
// for the device launches what it has captured, while all else is done as ever.
enum class Way : uint8_t { kOrdinary, kCaptured, kReplayed };

class ProgramSegments {
 public:
  // Where `holds_transfers`, transfers and waits for them are queued on the device like kernels, so
  // that a program is one segment. Else the host moves them, and segments lie between. The plan and
  // the device must outlive it.
  ProgramSegments(const Plan& plan, Device& device, bool holds_transfers);
  ~ProgramSegments();
  ProgramSegments(const ProgramSegments&) = delete;
  ProgramSegments& operator=(const ProgramSegments&) = delete;

  const std::vector<ProgramSegment>& of(const Program& program) const;

  // Calls `walk` once. Libraries prepare themselves in the first run, which is ordinary; the second
  // is captured. `observer` is who sees the steps, for what it queues is captured too.
  void run(const Program& program, const ProgramSegment& segment, int64_t micro_step,
           const void* observer, const std::function<void(Way)>& walk);

 private:
  // What is queued depends on these, and else on the plan alone: numbers that change from step to
  // step are read from slots.
  using Key = std::tuple<const Program*, size_t, bool, const void*>;
  struct Captured {
    bool has_run = false;
    std::optional<DeviceGraphs::Graph> graph;
  };

  void capture(Captured& captured, const ProgramSegment& segment,
               const std::function<void(Way)>& walk);
  void replay(const Captured& captured, const ProgramSegment& segment,
              const std::function<void(Way)>& walk);

  const Plan& plan_;
  Device& device_;
  DeviceGraphs& graphs_;
  std::vector<std::vector<ProgramSegment>> segments_;  // by program
  std::map<Key, Captured> captured_;
};

}  // namespace memwall
