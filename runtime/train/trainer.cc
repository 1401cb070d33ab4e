#include "runtime/train/trainer.h"

#include <fmt/format.h>

#include <optional>

#include "comm/agree.h"
#include "runtime/train/checkpoint.h"
#include "runtime/train/requests.h"
#include "runtime/train/run_log.h"
#include "runtime/train/step_runner.h"
#include "runtime/train/trace.h"

namespace memwall {
namespace {

// Where a run begins: after the last checkpoint's step, or at 0.
struct Start {
  bool fresh = true;
  int64_t step = 0;  // finished
  StepState state;
};

std::string checkpoint_to_resume(Communicator& comm, const TrainSettings& settings) {
  if (!settings.resume) return "";
  std::string folder;  // rank 0 decides: file systems need not show all ranks the same at once
  run_together(comm, [&] {
    if (comm.rank() == 0) folder = newest_checkpoint(settings.run_dir);
  });
  return comm.gather_text(folder).front();
}

Start resume_from(const std::string& folder, Executor& executor, const TrainSettings& settings) {
  const CheckpointInfo info = load_checkpoint(folder, executor);
  if (info.data_fingerprint != settings.data_fingerprint) {
    throw InputError("the data files are not those that the run was started with", folder);
  }
  say(executor.comm(), fmt::format("resumed from step {}", info.step));
  const bool other_plan = info.plan_hash != settings.plan_hash;
  if (other_plan || info.cpu_features != settings.cpu_features) {
    say(executor.comm(),
        fmt::format("the {} changed since then: the run goes on, but not bitwise as it would have",
                    other_plan ? "plan" : "processor"));
  }
  return {false, info.step, info.state};
}

Start begin(Executor& executor, const TrainSettings& settings,
            const std::function<void(Executor&)>& initialise) {
  Communicator& comm = executor.comm();
  const std::string folder = checkpoint_to_resume(comm, settings);
  if (settings.resume && comm.rank() == 0) {
    const std::string damage = damage_of_newest(settings.run_dir);
    if (!damage.empty()) say(comm, "passed over: " + damage);
  }
  if (!folder.empty()) return resume_from(folder, executor, settings);
  if (settings.resume) say(comm, "no checkpoint, starting fresh");
  run_together(comm, [&] { initialise(executor); });
  return {true, 0, initial_state(settings.loss_scale)};
}

class Run {
 public:
  Run(Executor& executor, const Dataset& data, const TrainSettings& settings, const Start& start,
      RequestSignals& signals)
      : executor_(executor),
        data_(data),
        settings_(settings),
        signals_(signals),
        timer_(executor),
        steps_(executor,
               feed_from(data.training, settings, executor.comm().size(), executor.comm().rank()),
               settings, &timer_),
        log_(executor, settings, start.step),
        state_(start.state) {
    result_.step = start.step;
    if (start.fresh) log_.ran({"init"});
  }

  TrainResult finish() {
    while (result_.step < settings_.steps && !result_.stopped_on_request) step();
    return result_;
  }

 private:
  void step() {
    const bool traced = is_traced(result_.step + 1);
    if (traced) timer_.trace_next();
    const StepReport report = steps_.run(result_.step, state_, requests());
    ++result_.step;
    log_.ran(steps_.programs(report.measured));
    result_.loss = report.loss;
    log_.step(result_.step, steps_.tokens(), report);
    if (report.skipped) overflowed(overflow_of(report));
    state_ = next_state(state_, report, settings_.loss_scale);
    const bool last = result_.step == settings_.steps;
    const bool saves = due(settings_.save_every) || report.agreed.save;
    result_.stopped_on_request = report.agreed.stop && !last;
    if (traced) trace(report.split);
    // Who asks to stop may be about to end the job: saving comes first then. Else it comes last,
    // so that a checkpoint has its validation line before it.
    if (saves && result_.stopped_on_request) save();
    if (due(settings_.eval_every)) validate();
    if (saves && !result_.stopped_on_request) save();
  }

  // Names where it began: at most once a growth interval for each scale, for that costs a step.
  void overflowed(Overflow overflow) {
    const bool of_curvature = overflow == Overflow::kCurvature;
    const LossScaleSettings& loss = settings_.loss_scale;
    const bool hopeless =
        loss.dynamic && (of_curvature ? at_minimum(sign_scale_settings(loss), state_.sign_scale)
                                      : at_minimum(loss, state_.loss_scale));
    int64_t& named_at = of_curvature ? curvature_named_at_ : gradient_named_at_;
    if (!hopeless && named_at >= 0 && result_.step - named_at < loss.growth_interval) return;
    named_at = result_.step;
    std::string origin = steps_.overflow_origin(result_.step - 1, overflow);
    if (origin.empty()) {
      origin = of_curvature ? "the sum of z * (H z) over ranks" : "the sum of gradients over ranks";
    }
    const std::string what = fmt::format("step {}  skipped: {}, first in {}", result_.step,
                                         what_overflowed(of_curvature), origin);
    if (hopeless) {
      throw SharedError(what, "",
                        of_curvature ? "the scale of z is at its least: lower the learning rate, "
                                       "or train in FP32"
                                     : "the loss scale is at precision.min_loss_scale: lower the "
                                       "learning rate, or train in FP32",
                        ExitCode::kFailed);
    }
    say(executor_.comm(), what);
  }

  std::string what_overflowed(bool of_curvature) const {
    if (!settings_.loss_scale.dynamic) {
      return of_curvature ? "H z is not finite" : "the gradient is not finite";
    }
    if (!of_curvature) {
      return fmt::format("not finite at loss scale {:g}", state_.loss_scale.scale);
    }
    return fmt::format("H z is not finite at sign scale {:g} and loss scale {:g}",
                       state_.sign_scale.scale, state_.loss_scale.scale);
  }

  bool is_traced(int64_t step) const {
    return step >= settings_.trace_first_step && step <= settings_.trace_last_step;
  }

  void trace(const StepSplit& split) {
    const bool goes_on = is_traced(result_.step + 1) && result_.step < settings_.steps &&
                         !result_.stopped_on_request;
    run_together(executor_.comm(), [&] {
      if (!trace_) trace_.emplace(settings_.run_dir, executor_, settings_.plan_hash);
      trace_->add(result_.step, timer_, split);
      if (!goes_on) trace_->commit();
    });
    if (goes_on) return;
    say(executor_.comm(), fmt::format("step {}  traced: {}", result_.step, trace_->folder()));
    trace_.reset();
  }

  bool due(int64_t every) const {
    return every > 0 && (result_.step % every == 0 || result_.step == settings_.steps);
  }

  StepRequests requests() const {
    StepRequests out = signals_.pending();
    const std::chrono::duration<double> running =
        std::chrono::steady_clock::now() - settings_.started;
    const double limit = settings_.time_limit_seconds;
    out.stop |= limit > 0 && running.count() >= limit;
    return out;
  }

  void validate() {
    const Evaluation found =
        evaluate(executor_, data_.validation, settings_.seq_length, settings_.micro_batch);
    result_.validation_loss = found.loss;
    log_.validation(result_.step, found);
    log_.ran({"evaluate"});
  }

  void save() {
    CheckpointInfo info;
    info.step = result_.step;
    info.state = state_;
    info.plan_hash = settings_.plan_hash;
    info.data_fingerprint = settings_.data_fingerprint;
    info.cpu_features = settings_.cpu_features;
    save_checkpoint(settings_.run_dir, executor_, info, settings_.keep_checkpoints);
    signals_.saved();
    say(executor_.comm(), fmt::format("step {}  saved{}", result_.step,
                                      result_.stopped_on_request ? ", stopping as asked" : ""));
  }

  Executor& executor_;
  const Dataset& data_;
  const TrainSettings& settings_;
  RequestSignals& signals_;
  StepTimer timer_;
  StepRunner steps_;
  RunLog log_;
  std::optional<TraceFile> trace_;  // while steps are traced
  StepState state_;
  // The steps whose overflow was last traced to its origin.
  int64_t gradient_named_at_ = -1, curvature_named_at_ = -1;
  TrainResult result_;
};

}  // namespace

TrainResult train(Executor& executor, const Dataset& data, const TrainSettings& settings,
                  const std::function<void(Executor&)>& initialise) {
  if (settings.eval_every > 0 && data.validation.size == 0) {
    throw InputError("there is no validation part to evaluate", "run.eval_every",
                     "data.validation_fraction or data.validation_tokens; or 0");
  }
  RequestSignals signals;
  const Start start = begin(executor, settings, initialise);
  return Run(executor, data, settings, start, signals).finish();
}

}  // namespace memwall
