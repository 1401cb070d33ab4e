// What a run leaves behind of its steps: metrics and validation lines, and progress on the screen.
// Private to this room.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/exec/executor.h"
#include "runtime/train/event_file.h"
#include "runtime/train/line_file.h"
#include "runtime/train/metrics.h"
#include "runtime/train/step_runner.h"
#include "runtime/train/trainer.h"

namespace memwall {

class RunLog {
 public:
  // Collective. Cuts the files to `finished_steps`: what was logged later will be logged again.
  // The arguments must outlive it.
  RunLog(const Executor& executor, const TrainSettings& settings, int64_t finished_steps);

  // This process has run these programs by now: planned and measured memory follow.
  void ran(const std::vector<std::string>& programs);

  // `step` counts from 1; `tokens` of a step, over all ranks.
  void step(int64_t step, double tokens, const StepReport& report);
  void validation(int64_t step, const Evaluation& found);

 private:
  using Clock = std::chrono::steady_clock;
  using Json = nlohmann::ordered_json;

  bool due_on_screen(int64_t step) const;
  double utilisation(double step_seconds) const;
  void measure(bool curvature);
  void print_progress(int64_t step, double tokens, const StepReport& report);

  const Executor& executor_;
  const TrainSettings& settings_;
  std::optional<LineFile> metrics_, validation_;
  std::optional<EventFile> events_;  // rank 0
  std::vector<std::string> programs_;
  bool programs_changed_ = false, planned_curvature_ = false;
  Json planned_, measured_memory_;
  OutsideMemory outside_;
  bool first_step_marked_ = false;

  // Since the last progress line.
  Clock::time_point since_;
  int64_t since_step_;
  double step_seconds_ = 0.0;
};

// On rank 0's standard output, at once.
void say(const Communicator& comm, const std::string& line);

}  // namespace memwall
