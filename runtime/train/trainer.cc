#include "runtime/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

#include "comm/agree.h"
#include "runtime/base/hash.h"
#include "runtime/base/scalars.h"
#include "runtime/train/checkpoint.h"
#include "runtime/train/line_file.h"
#include "runtime/train/progress.h"
#include "runtime/train/requests.h"

namespace memwall {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// What one step did, as the scalars and clocks say.
struct StepReport {
  double loss = 0.0, grad_norm = 0.0, learning_rate = 0.0, loss_scale = 1.0;
  bool skipped = false;
  StepRequests agreed;
  double seconds = 0.0, input_seconds = 0.0, micro_seconds = 0.0, update_seconds = 0.0;
  Ledger traffic;
};

struct Betas {
  double beta1 = 0.0, beta2 = 0.0;
};

Betas betas_of(const Plan& plan) {
  for (const Step& step : plan.program("update").steps) {
    if (step.op != Op::kAdamW) continue;
    const auto& a = std::get<UnitAttributes>(step.attributes);
    return {a.beta1, a.beta2};
  }
  throw InternalError("the update has no optimizer step");
}

class Trainer {
 public:
  Trainer(Executor& executor, const Dataset& data, const TrainSettings& settings)
      : executor_(executor),
        comm_(executor.comm()),
        plan_(executor.plan()),
        data_(data),
        settings_(settings),
        sampler_(data.training, settings.sampling, settings.seq_length,
                 static_cast<uint64_t>(settings.seed)),
        layout_{comm_.size(), settings.micro_batch, settings.global_batch},
        betas_(betas_of(plan_)),
        outside_(settings.outside) {
    check(layout_.micro_steps() == plan_.micro_steps, "the plan has another global batch");
    check(
        executor_.slot(SlotKind::kTokens).elements() == settings.micro_batch * settings.seq_length,
        "the plan has another micro-batch or sequence length");
    if (settings.eval_every > 0 && data.validation.size == 0) {
      throw InputError("there is no validation part to evaluate", "run.eval_every",
                       "data.validation_fraction or data.validation_tokens; or 0");
    }
  }

  TrainResult run(const std::function<void(Executor&)>& initialise) {
    begin(initialise);
    open_logs();
    outside_.mark("before_training", executor_.arena().resident_bytes());
    window_start_ = Clock::now();
    window_step_ = step_;
    while (step_ < settings_.steps && !result_.stopped_on_request) {
      const StepReport report = run_step();
      ++step_;
      if (!report.skipped) ++applied_steps_;
      result_.step = step_;
      result_.loss = report.loss;
      log(report);
      const bool last = step_ == settings_.steps;
      result_.stopped_on_request = report.agreed.stop && !last;
      if (due(settings_.eval_every, last)) validate();
      if (due(settings_.save_every, last) || report.agreed.save) save();
    }
    return result_;
  }

 private:
  bool speaks() const { return print_here(comm_); }
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    if (!speaks()) return;
    fmt::print(format, std::forward<Args>(args)...);
    if (std::fflush(stdout) != 0) throw Error("cannot write to standard output");
  }
  bool due(int64_t every, bool last) const { return every > 0 && (step_ % every == 0 || last); }

  void begin(const std::function<void(Executor&)>& initialise) {
    std::string folder;
    if (settings_.resume) {
      run_together(comm_, [&] {
        if (speaks()) folder = newest_checkpoint(settings_.run_dir);
      });
      folder = comm_.gather_text(folder).front();
    }
    if (folder.empty()) {
      if (settings_.resume) say("no checkpoint, starting fresh\n");
      run_together(comm_, [&] { initialise(executor_); });
      ran("init");
      return;
    }
    const CheckpointInfo info = load_checkpoint(folder, executor_);
    if (info.data_fingerprint != settings_.data_fingerprint) {
      throw InputError("the data files are not those that the run was started with", folder);
    }
    step_ = result_.step = info.step;
    applied_steps_ = info.applied_steps;
    say("resumed from step {}\n", step_);
    if (info.plan_hash != settings_.plan_hash || info.cpu_features != settings_.cpu_features) {
      say("the {} changed since: the run goes on, but not bitwise as before\n",
          info.plan_hash != settings_.plan_hash ? "plan" : "processor");
    }
  }

  // What was logged after the checkpoint will be logged again.
  void open_logs() {
    run_together(comm_, [&] {
      const std::string folder = settings_.run_dir + "/metrics";
      std::error_code error;
      std::filesystem::create_directories(folder, error);
      if (error) throw Error("cannot create: " + error.message(), folder);
      metrics_.emplace(fmt::format("{}/rank-{:05d}.jsonl", folder, comm_.rank()), step_);
      if (speaks()) validation_.emplace(settings_.run_dir + "/validation.jsonl", step_);
    });
  }

  void ran(const std::string& program) {
    if (std::find(programs_.begin(), programs_.end(), program) != programs_.end()) return;
    programs_.push_back(program);
    planned_ = planned_json(plan_, programs_, comm_.rank());
    memory_is_stale_ = true;
  }

  void run_program(const std::string& name, int64_t micro_step = 0) {
    executor_.run(plan_.program(name), micro_step);
    ran(name);
  }

  double& scalar(Scalar which) {
    return executor_.slot(SlotKind::kScalars).as<double>()[static_cast<int64_t>(which)];
  }

  double step_tokens() const {
    return static_cast<double>(settings_.global_batch * settings_.seq_length);
  }

  StepRequests requests() const {
    StepRequests out = signals_.pending();
    const double limit = settings_.time_limit_seconds;
    out.stop |= limit > 0 && seconds_between(settings_.started, Clock::now()) >= limit;
    return out;
  }

  void write_scalars() {
    const auto t = static_cast<double>(applied_steps_ + 1);
    scalar(Scalar::kSeed) = loss_scale_ / step_tokens();
    scalar(Scalar::kLossScale) = loss_scale_;
    scalar(Scalar::kLearningRate) = settings_.schedule.at(step_);
    scalar(Scalar::kBeta1Correction) = 1.0 - std::pow(betas_.beta1, t);
    scalar(Scalar::kBeta2Correction) = 1.0 - std::pow(betas_.beta2, t);
    scalar(Scalar::kStopRequest) = encode(requests());
  }

  void feed(int64_t micro_step) {
    const auto elements = [](const Tensor& t) { return static_cast<size_t>(t.elements()); };
    const Tensor tokens = executor_.slot(SlotKind::kTokens);
    const Tensor targets = executor_.slot(SlotKind::kTargets);
    const Slot* index = plan_.find_slot(SlotKind::kSampleIndex);
    samples_.resize(static_cast<size_t>(settings_.micro_batch));
    fill_micro_batch(sampler_, layout_, step_, micro_step, comm_.rank(),
                     {tokens.as<int32_t>(), elements(tokens)},
                     {targets.as<int32_t>(), elements(targets)}, samples_);
    if (index != nullptr) {
      std::copy(samples_.begin(), samples_.end(), executor_.slot(*index).as<int64_t>());
    }
  }

  StepReport run_step() {
    StepReport report;
    const Ledger before = comm_.ledger();
    const auto start = Clock::now();
    write_scalars();
    for (int64_t a = 0; a < plan_.micro_steps; ++a) {
      const auto input_start = Clock::now();
      feed(a);
      report.input_seconds += seconds_between(input_start, Clock::now());
      run_program(a + 1 < plan_.micro_steps ? "micro" : "last_micro", a);
    }
    const auto update_start = Clock::now();
    run_program("update");
    const auto end = Clock::now();
    report.micro_seconds = seconds_between(start, update_start) - report.input_seconds;
    report.update_seconds = seconds_between(update_start, end);
    report.seconds = seconds_between(start, end);
    report.traffic = difference(comm_.ledger(), before);
    report.loss = scalar(Scalar::kLoss);
    report.grad_norm = scalar(Scalar::kGradNorm);
    report.learning_rate = scalar(Scalar::kLearningRate);
    report.loss_scale = loss_scale_;
    report.skipped = scalar(Scalar::kSkip) != 0.0;
    report.agreed = decode_requests(scalar(Scalar::kStopAgreed));
    return report;
  }

  double utilisation(double step_seconds) const {
    if (settings_.peak_flops <= 0.0) return std::numeric_limits<double>::quiet_NaN();
    return static_cast<double>(plan_.totals.model_flops) / step_seconds / settings_.peak_flops;
  }

  bool reports_progress() const {
    return step_ == settings_.steps || step_ % std::max<int64_t>(1, settings_.log_every) == 0;
  }

  void measure_memory() {
    if (!memory_is_stale_ && !reports_progress()) return;
    if (!first_step_marked_) outside_.mark("first_step", executor_.arena().resident_bytes());
    first_step_marked_ = true;
    measured_memory_ = measured_memory_json(executor_, outside_);
    memory_is_stale_ = false;
  }

  void log(const StepReport& report) {
    measure_memory();
    Json line = {{"step", step_},
                 {"loss", exact(report.loss)},
                 {"grad_norm", exact(report.grad_norm)},
                 {"lr", exact(report.learning_rate)},
                 {"loss_scale", exact(report.loss_scale)},
                 {"skipped", report.skipped},
                 {"step_seconds", exact(report.seconds)},
                 {"tokens_per_second", exact(step_tokens() / report.seconds)},
                 {"model_flops_utilisation", exact(utilisation(report.seconds))},
                 {"peak_flops", exact(settings_.peak_flops)},
                 {"planned", planned_},
                 {"measured",
                  {{"memory", measured_memory_},
                   {"traffic", traffic_json(report.traffic)},
                   {"seconds",
                    {{"total", exact(report.seconds)},
                     {"input", exact(report.input_seconds)},
                     {"micro_steps", exact(report.micro_seconds)},
                     {"update", exact(report.update_seconds)}}}}}};
    metrics_->append(line.dump());
    window_seconds_ += report.seconds;
    if (reports_progress()) print_progress(report);
  }

  void print_progress(const StepReport& report) {
    const auto now = Clock::now();
    const auto steps = static_cast<double>(step_ - window_step_);
    const double step_seconds = window_seconds_ / steps;
    const double wall_seconds = seconds_between(window_start_, now) / steps;
    ProgressLine line;
    line.step = step_;
    line.steps = settings_.steps;
    line.loss = report.loss;
    line.learning_rate = report.learning_rate;
    line.tokens_per_second = step_tokens() / step_seconds;
    line.utilisation = utilisation(step_seconds);
    line.arena_bytes = measured_memory_["peak"].get<int64_t>();
    line.remaining_seconds = wall_seconds * static_cast<double>(settings_.steps - step_);
    say("{}\n", progress_text(line));
    window_start_ = now;
    window_step_ = step_;
    window_seconds_ = 0.0;
  }

  void validate() {
    const Evaluation found =
        evaluate(executor_, data_.validation, settings_.seq_length, settings_.micro_batch);
    ran("evaluate");
    result_.validation_loss = found.loss;
    if (validation_) {
      const Json line = {{"step", step_}, {"loss", exact(found.loss)}, {"tokens", found.tokens}};
      validation_->append(line.dump());
    }
    say("step {}  validation loss {:.4f} over {} tokens\n", step_, found.loss, found.tokens);
  }

  void save() {
    CheckpointInfo info;
    info.step = step_;
    info.applied_steps = applied_steps_;
    info.plan_hash = settings_.plan_hash;
    info.data_fingerprint = settings_.data_fingerprint;
    info.cpu_features = settings_.cpu_features;
    info.loss_scale = loss_scale_;
    save_checkpoint(settings_.run_dir, executor_, info, settings_.keep_checkpoints);
    signals_.saved();
    say("step {}  saved{}\n", step_, result_.stopped_on_request ? ", stopping as asked" : "");
  }

  Executor& executor_;
  Communicator& comm_;
  const Plan& plan_;
  const Dataset& data_;
  const TrainSettings& settings_;
  const Sampler sampler_;
  const BatchLayout layout_;
  const Betas betas_;
  const double loss_scale_ = 1.0;  // FP32 and FP64 need none
  RequestSignals signals_;

  int64_t step_ = 0;           // finished
  int64_t applied_steps_ = 0;  // not skipped
  TrainResult result_;
  std::vector<int64_t> samples_;

  std::optional<LineFile> metrics_, validation_;
  std::vector<std::string> programs_;  // that this process has run
  Json planned_, measured_memory_;
  OutsideMemory outside_;
  bool memory_is_stale_ = true, first_step_marked_ = false;
  Clock::time_point window_start_;  // since the last progress line
  int64_t window_step_ = 0;
  double window_seconds_ = 0.0;  // spent in steps
};

}  // namespace

TrainResult train(Executor& executor, const Dataset& data, const TrainSettings& settings,
                  const std::function<void(Executor&)>& initialise) {
  return Trainer(executor, data, settings).run(initialise);
}

}  // namespace memwall
