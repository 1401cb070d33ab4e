// `memwall bench step`: training steps, interleaved with their own products.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "comm/agree.h"
#include "optim/loss_scale.h"
#include "runtime/base/hash.h"
#include "runtime/cli/bench.h"
#include "runtime/cli/bench_run.h"
#include "runtime/cli/gemm_list.h"
#include "runtime/cli/op_times.h"
#include "runtime/cli/samples.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/tables.h"
#include "runtime/kernels/machine.h"
#include "runtime/train/step_runner.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kWarmUpSteps = 2;

// Everything that is measured, the same on all ranks but for `ops`.
struct StepMeasurement {
  Samples step, kernel, library, narrow;  // seconds; of a repeat the slowest rank's
  Samples between;                 // likewise: a step that measures no curvature, where some do
  OpTimes ops;                     // of this rank, all repeats
  double step_seconds_here = 0.0;  // of this rank, all repeats
  double loss = 0.0;
  int64_t skipped = 0;
};

struct Bench : BenchRun {
  std::vector<GemmCall> planned, fp32;  // the step's products as they are, and in FP32
};

std::string precision_of(const Bench& bench) {
  return config::Precision::Mode_Name(bench.config.precision().mode());
}

// 16 bits wide.
bool is_narrow(const Bench& bench) {
  return size_of(gpt_spec(bench.config).dtype) == 2;
}

bool has_library(const Bench& bench) {
  return bench.config.precision().mode() != config::Precision::FP64;
}

// The mean over steps of both kinds.
double mean_step_seconds(const Bench& bench, const StepMeasurement& m) {
  if (!has_two_kinds(bench.plan)) return m.step.median();
  const auto every = static_cast<double>(bench.config.optimizer().adahessian().update_every());
  return (m.step.median() + (every - 1.0) * m.between.median()) / every;
}

StepMeasurement measure(const Bench& bench, const BenchStepOptions& options, Job& job) {
  Communicator& comm = job.comm();
  std::unique_ptr<Executor> executor;
  run_together(comm,
               [&] { executor = std::make_unique<Executor>(bench.plan, comm, job.threads()); });
  const TrainSettings settings = train_settings(bench.config, comm.size());
  StepRunner steps(*executor, synthetic_tokens(bench.config, comm), settings);
  GemmBench products(has_library(bench) ? bench.fp32 : bench.planned, job.threads());
  std::optional<GemmBench> narrow;
  if (is_narrow(bench)) narrow.emplace(bench.planned, job.threads());
  const std::vector<GemmCall>& list = has_library(bench) ? bench.fp32 : bench.planned;

  executor->run(bench.plan.program("init"));
  StepMeasurement out;
  executor->set_observer(&out.ops);
  StepState state = initial_state(settings.loss_scale);
  for (int64_t step = 0; step < kWarmUpSteps + options.steps; ++step) {
    if (step == kWarmUpSteps) out = {};
    comm.barrier();
    // The optimizer's own count would measure curvature now and then only.
    const int64_t cycle = std::max<int64_t>(1, settings.curvature_every);
    state.applied = state.measured * cycle;
    const StepReport report = steps.run(step, state, {});
    state = next_state(state, report, settings.loss_scale);
    out.skipped += report.skipped ? 1 : 0;
    out.loss = report.loss;
    out.step_seconds_here += report.seconds;
    out.step.add(slowest(comm, report.seconds));
    out.kernel.add(slowest(comm, products.kernel_seconds(list)));
    if (has_library(bench)) out.library.add(slowest(comm, products.library_seconds(list)));
    if (narrow) out.narrow.add(slowest(comm, narrow->kernel_seconds(bench.planned)));
    if (!has_two_kinds(bench.plan)) continue;
    executor->set_observer(nullptr);
    state.applied = state.measured * cycle + 1;
    out.between.add(slowest(comm, steps.run(step, state, {}).seconds));
    executor->set_observer(&out.ops);
  }
  return out;
}

// The limit: the faster of the two ways.
const Samples& limit(const StepMeasurement& m) {
  return !m.library.values.empty() && m.library.median() < m.kernel.median() ? m.library : m.kernel;
}

struct Share {
  std::string op;
  int64_t calls = 0;  // a step
  double seconds = 0.0, share = 0.0;
};

// Of this rank's mean step, the largest first; together all of it.
std::vector<Share> shares(const StepMeasurement& m) {
  std::vector<Share> out;
  const auto repeats = static_cast<int64_t>(m.step.values.size());
  const auto add = [&](std::string_view op, const OpTimes::Entry& entry) {
    if (entry.calls == 0) return;
    out.push_back({std::string(op), entry.calls / repeats,
                   entry.seconds / static_cast<double>(repeats),
                   entry.seconds / m.step_seconds_here});
  };
  for (size_t op = 0; op < kOpCount; ++op) {
    add(op_name(static_cast<Op>(op)), m.ops.of(static_cast<Op>(op)));
  }
  add("(waiting for transfers)", m.ops.waiting());
  add("(input, and between steps)", {repeats, m.step_seconds_here - m.ops.seconds()});
  std::sort(out.begin(), out.end(),
            [](const Share& a, const Share& b) { return a.seconds > b.seconds; });
  return out;
}

void add_samples(Json& out, const std::string& name, const Samples& samples) {
  if (samples.values.empty()) return;
  out[name] = samples.median();
  out[name + "_min"] = samples.min();
}

Json to_json(const Bench& bench, const StepMeasurement& m, const BenchStepOptions& options,
             const Job& job) {
  Json out;
  out["config"] = options.config.path;
  out["ranks"] = job.ranks();
  out["threads"] = job.threads();
  out["cpu"] = cpu_features();
  out["precision"] = precision_of(bench);
  out["zero_stage"] = bench.plan.zero_stage;
  out["parameters"] = bench.plan.parameters;
  out["plan_hash"] = hash_hex(plan_hash(bench.plan));
  out["steps"] = options.steps;
  out["tokens"] = bench.tokens;
  add_samples(out, "step_seconds", m.step);
  add_samples(out, "between_step_seconds", m.between);
  out["mean_step_seconds"] = mean_step_seconds(bench, m);
  out["tokens_per_second"] = static_cast<double>(bench.tokens) / mean_step_seconds(bench, m);
  out["gemm_seconds"] = limit(m).median();
  out["gemm_seconds_min"] = limit(m).min();
  out["gemm_fraction"] = limit(m).median() / m.step.median();
  out["gemm_fraction_min"] = limit(m).min() / m.step.min();
  add_samples(out, "gemm_seconds_kernel", m.kernel);
  add_samples(out, "gemm_seconds_library", m.library);
  const bool half = gpt_spec(bench.config).dtype == DType::kF16;
  add_samples(out, half ? "gemm_seconds_kernel_fp16" : "gemm_seconds_kernel_bf16", m.narrow);
  out["gemm_calls"] = bench.planned.size();
  out["gemm_flops"] = total_flops(bench.planned);
  out["model_flops"] = bench.model_flops / job.ranks();
  out["loss"] = m.loss;
  out["skipped_steps"] = m.skipped;
  out["ops"] = Json::array();
  for (const Share& s : shares(m)) {
    out["ops"].push_back(
        {{"op", s.op}, {"calls", s.calls}, {"seconds", s.seconds}, {"share", s.share}});
  }
  return out;
}

std::string milliseconds(double seconds) {
  return fmt::format("{:.2f}", 1e3 * seconds);
}

std::string to_text(const Bench& bench, const StepMeasurement& m, const BenchStepOptions& options,
                    const Job& job) {
  std::string out = fmt::format(
      "{}: {} parameters, {}, stage {}, {} rank{} x {} thread{}, {} tokens a step, {} steps\n\n",
      options.config.path, count_text(bench.plan.parameters), precision_of(bench),
      bench.plan.zero_stage, job.ranks(), job.ranks() == 1 ? "" : "s", job.threads(),
      job.threads() == 1 ? "" : "s", count_text(bench.tokens), options.steps);
  const double flops = static_cast<double>(total_flops(bench.planned));
  TextTable times({"a step, ms", "median", "fastest", "GFLOP/s a rank"});
  const auto row = [&](const char* name, const Samples& samples) {
    if (samples.values.empty()) return;
    times.add({name, milliseconds(samples.median()), milliseconds(samples.min()),
               fmt::format("{:.1f}", 1e-9 * flops / samples.median())});
  };
  const bool other = is_narrow(bench);
  row(has_two_kinds(bench.plan) ? "the whole step, with curvature" : "the whole step", m.step);
  row(other ? "its products in FP32, our kernel" : "its products, our kernel", m.kernel);
  const std::string plain =
      fmt::format("its products{}, plain {}", other ? " in FP32" : "", gemm_library());
  row(plain.c_str(), m.library);
  row(fmt::format("its products in {}, our kernel", precision_of(bench)).c_str(), m.narrow);
  out += times.text();
  if (has_two_kinds(bench.plan)) {
    out +=
        fmt::format("\na step without curvature {} ms, with it {:.2f} times as long; mean {} ms\n",
                    milliseconds(m.between.median()), m.step.median() / m.between.median(),
                    milliseconds(mean_step_seconds(bench, m)));
  }
  out += fmt::format("\n{} tokens/s; {:.1f} % of the {}GEMM-only limit ({} products)\n\n",
                     count_text(static_cast<int64_t>(static_cast<double>(bench.tokens) /
                                                     mean_step_seconds(bench, m))),
                     100.0 * limit(m).median() / m.step.median(), other ? "FP32 " : "",
                     count_text(static_cast<int64_t>(bench.planned.size())));
  TextTable ops({"rank 0's step by op", "calls", "ms", "share"});
  for (const Share& s : shares(m)) {
    ops.add({s.op, count_text(s.calls), milliseconds(s.seconds),
             fmt::format("{:.1f} %", 100.0 * s.share)});
  }
  out += ops.text();
  if (m.skipped > 0) {
    out += fmt::format("\n{} steps were skipped: not finite at their loss scale\n", m.skipped);
  }
  return out;
}

}  // namespace

ExitCode bench_step_verb(const BenchStepOptions& options, Job& job) {
  Bench bench{bench_run(options.config, job), {}, {}};
  // Points into the plan: where it stays.
  bench.planned = gemm_list(bench.plan, bench.plan.has_program("update_hessian"));
  bench.fp32 = in_type(bench.planned, DType::kF32);
  const StepMeasurement measured = measure(bench, options, job);
  if (!job.speaks()) return ExitCode::kDone;
  fmt::print("{}", options.json ? to_json(bench, measured, options, job).dump(2) + '\n'
                                : to_text(bench, measured, options, job));
  return ExitCode::kDone;
}

}  // namespace memwall
