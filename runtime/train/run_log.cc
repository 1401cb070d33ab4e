#include "runtime/train/run_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>

#include "comm/agree.h"
#include "runtime/train/progress.h"

namespace memwall {

void say(const Communicator& comm, const std::string& line) {
  if (!print_here(comm)) return;
  if (std::fputs((line + '\n').c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    throw Error(std::string("cannot write: ") + std::strerror(errno), "standard output");
  }
}

RunLog::RunLog(const Executor& executor, const TrainSettings& settings, int64_t finished_steps)
    : executor_(executor),
      settings_(settings),
      outside_(settings.outside),
      since_(Clock::now()),
      since_step_(finished_steps) {
  const Communicator& comm = executor.comm();
  run_together(executor.comm(), [&] {
    const std::string folder = settings.run_dir + "/metrics";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw Error("cannot create: " + error.message(), folder);
    metrics_.emplace(fmt::format("{}/rank-{:05d}.jsonl", folder, comm.rank()), finished_steps);
    if (print_here(comm)) {
      validation_.emplace(settings.run_dir + "/validation.jsonl", finished_steps);
      events_.emplace(settings.run_dir + "/tensorboard", finished_steps);
    }
  });
  outside_.mark("libraries_at_start", executor.arena().resident_bytes());
}

void RunLog::ran(const std::vector<std::string>& programs) {
  for (const std::string& program : programs) {
    if (std::find(programs_.begin(), programs_.end(), program) != programs_.end()) continue;
    programs_.push_back(program);
    programs_changed_ = true;
  }
}

bool RunLog::due_on_screen(int64_t step) const {
  return step == settings_.steps || step % std::max<int64_t>(1, settings_.log_every) == 0;
}

double RunLog::utilisation(double step_seconds) const {
  if (settings_.peak_flops <= 0.0) return std::numeric_limits<double>::quiet_NaN();
  const auto flops = static_cast<double>(executor_.plan().totals.model_flops);
  return flops / step_seconds / settings_.peak_flops;
}

void RunLog::measure(bool curvature) {
  if (!first_step_marked_)
    outside_.mark("libraries_in_first_step", executor_.arena().resident_bytes());
  first_step_marked_ = true;
  measured_memory_ = measured_memory_json(executor_, outside_);
  if (programs_changed_ || curvature != planned_curvature_) {
    planned_ = planned_json(executor_.plan(), programs_, executor_.comm().rank(), curvature);
    planned_curvature_ = curvature;
  }
  programs_changed_ = false;
}

void RunLog::step(int64_t step, double tokens, const StepReport& report) {
  measure(report.measured);
  Json line = {{"step", step},
               {"loss", exact(report.loss)},
               {"grad_norm", exact(report.grad_norm)},
               {"lr", exact(report.learning_rate)},
               {"loss_scale", exact(report.loss_scale)},
               {"skipped", report.skipped},
               {"step_seconds", exact(report.seconds)},
               {"tokens_per_second", exact(tokens / report.seconds)},
               {"model_flops_utilisation", exact(utilisation(report.seconds))},
               {"peak_flops", exact(settings_.peak_flops)},
               {"planned", planned_},
               {"measured",
                {{"memory", measured_memory_},
                 {"traffic", traffic_json(report.traffic)},
                 {"seconds", seconds_json(report.split)}}}};
  if (report.measured) {
    line["hessian"] = {{"trace", exact(report.trace)}, {"sign_scale", exact(report.sign_scale)}};
  }
  metrics_->append(line.dump());
  if (events_) events_->append(step, scalars_of(line));
  step_seconds_ += report.seconds;
  if (due_on_screen(step)) print_progress(step, tokens, report);
}

void RunLog::print_progress(int64_t step, double tokens, const StepReport& report) {
  const auto now = Clock::now();
  const auto steps = static_cast<double>(step - since_step_);
  const double wall_seconds = std::chrono::duration<double>(now - since_).count();
  ProgressLine line;
  line.step = step;
  line.steps = settings_.steps;
  line.loss = report.loss;
  line.learning_rate = report.learning_rate;
  line.tokens_per_second = tokens * steps / step_seconds_;
  line.utilisation = utilisation(step_seconds_ / steps);
  line.arena_bytes = measured_memory_["peak"].get<int64_t>();
  line.remaining_seconds = wall_seconds / steps * static_cast<double>(settings_.steps - step);
  say(executor_.comm(), progress_text(line));
  since_ = now;
  since_step_ = step;
  step_seconds_ = 0.0;
}

void RunLog::validation(int64_t step, const Evaluation& found) {
  if (validation_) {
    const Json line = {{"step", step}, {"loss", exact(found.loss)}, {"tokens", found.tokens}};
    validation_->append(line.dump());
  }
  if (events_) events_->append(step, {{"validation/loss", found.loss}});
  say(executor_.comm(), fmt::format("step {}  validation loss {:.4f} over {} tokens", step,
                                    found.loss, found.tokens));
}

}  // namespace memwall
