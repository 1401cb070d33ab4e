// A small GPT, compiled and run directly on the executor: what tests of passes and of whole steps
// stand on.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "runtime/base/half.h"
#include "runtime/base/scalars.h"
#include "runtime/exec/executor.h"
#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"

namespace memwall::test {

inline GptSpec tiny_spec(DType dtype) {
  GptSpec spec;
  spec.layers = 2;
  spec.hidden = 32;
  spec.heads = 2;
  spec.context = 20;  // longer than a sequence: part of wpe has no gradient
  spec.vocabulary = 61;
  spec.batch = 2;
  spec.time = 16;
  spec.dtype = dtype;
  return spec;
}

inline GptSpec dropping(DType dtype) {
  GptSpec spec = tiny_spec(dtype);
  spec.dropout = 0.1;
  return spec;
}

inline double element(const Tensor& t, int64_t i) {
  if (t.dtype == DType::kF64) return t.as<double>()[i];
  if (t.dtype == DType::kF16) return static_cast<double>(static_cast<float>(t.as<Half>()[i]));
  if (t.dtype == DType::kBF16) return static_cast<double>(static_cast<float>(t.as<BFloat16>()[i]));
  return static_cast<double>(t.as<float>()[i]);
}
inline void set_element(const Tensor& t, int64_t i, double value) {
  if (t.dtype == DType::kF64) {
    t.as<double>()[i] = value;
  } else {
    t.as<float>()[i] = static_cast<float>(value);
  }
}

class TinyRun {
 public:
  TinyRun(const GptSpec& spec, CompileSettings settings, Communicator& comm, int threads = 1)
      : spec_(spec),
        settings_(with_ranks(settings, comm)),
        plan_(compile(Gpt2(spec), settings_)),
        executor_(std::make_unique<Executor>(plan_, comm, threads)) {
    if (settings_.train) executor_->run(plan_.program("init"));
  }

  const Plan& plan() const { return plan_; }
  Executor& executor() { return *executor_; }
  const GptSpec& spec() const { return spec_; }
  int64_t micro_steps() const { return settings_.micro_steps; }

  // Tokens of global sample `sample`: one more than `time`.
  std::vector<int32_t> sample_tokens(int64_t sample) const {
    std::mt19937_64 random(static_cast<uint64_t>(sample) * 7919 + 17);
    std::vector<int32_t> tokens(static_cast<size_t>(spec_.time) + 1);
    for (int32_t& t : tokens) {
      t = static_cast<int32_t>(random() % static_cast<uint64_t>(spec_.vocabulary));
    }
    return tokens;
  }

  // Global sample of a row: micro-step by micro-step, in it rank by rank.
  int64_t sample_of(int64_t step, int64_t micro, int64_t row) const {
    const int64_t ranks = plan_.ranks;
    const int64_t global = spec_.batch * ranks * settings_.micro_steps;
    return step * global + (micro * ranks + executor_->comm().rank()) * spec_.batch + row;
  }

  void feed(int64_t step, int64_t micro) {
    const Slot* index = plan_.find_slot(SlotKind::kSampleIndex);
    for (int64_t row = 0; row < spec_.batch; ++row) {
      const int64_t sample = sample_of(step, micro, row);
      const std::vector<int32_t> tokens = sample_tokens(sample);
      const auto bytes = static_cast<size_t>(spec_.time) * sizeof(int32_t);
      const int64_t at = row * spec_.time;
      std::memcpy(executor_->slot(SlotKind::kTokens).as<int32_t>() + at, tokens.data(), bytes);
      std::memcpy(executor_->slot(SlotKind::kTargets).as<int32_t>() + at, tokens.data() + 1, bytes);
      if (index != nullptr) executor_->slot(*index).as<int64_t>()[row] = sample;
    }
  }

  double& scalar(Scalar which) {
    return executor_->slot(SlotKind::kScalars).as<double>()[static_cast<int64_t>(which)];
  }

  double global_tokens() const {
    return static_cast<double>(spec_.batch * spec_.time * plan_.ranks * settings_.micro_steps);
  }

  void set_scalars(int64_t step, double rate) {
    const double scale = spec_.dtype == DType::kF16 ? 1024.0 : 1.0;
    scalar(Scalar::kSeed) = scale / global_tokens();
    scalar(Scalar::kLossScale) = scale;
    scalar(Scalar::kLearningRate) = rate;
    scalar(Scalar::kStopRequest) = 0.0;
    scalar(Scalar::kUpdates) = static_cast<double>(step + 1);
    const double sign_scale = spec_.dtype == DType::kF16 ? 0x1p-7 : 1.0;
    scalar(Scalar::kSignScale) = sign_scale;
    scalar(Scalar::kHessianFactor) = 1.0 / (scale * sign_scale * static_cast<double>(plan_.probes));
    scalar(Scalar::kHessianUpdates) = static_cast<double>(step / curvature_every() + 1);
  }

  // Applied steps from one measurement of curvature to the next; 0: none is measured.
  int64_t curvature_every() const {
    const auto* adahessian = std::get_if<AdaHessianSettings>(&settings_.optimizer);
    return adahessian == nullptr ? 1 : adahessian->update_every;
  }
  bool measures(int64_t step) const {
    return plan_.has_program("update_hessian") && step % curvature_every() == 0;
  }

  // Forward and backward of all micro-steps: gradients, and curvature, lie in their slots.
  void accumulate(int64_t step, double rate = 1e-3) {
    set_scalars(step, rate);
    for (const ProgramRun& r : training_step(settings_.micro_steps, plan_.probes, measures(step))) {
      if (r.program.starts_with("update")) continue;
      if (r.probe == 0) feed(step, r.micro_step);
      scalar(Scalar::kDraw) = static_cast<double>(1 + step * plan_.probes + r.probe);
      executor_->run(plan_.program(r.program), r.micro_step);
    }
  }

  struct Step {
    double loss, grad_norm;
    double trace = 0.0;
    bool operator==(const Step&) const = default;
  };
  Step step(int64_t number, double rate = 1e-3) {
    accumulate(number, rate);
    executor_->run(plan_.program(measures(number) ? "update_hessian" : "update"));
    return {scalar(Scalar::kLoss), scalar(Scalar::kGradNorm),
            measures(number) ? scalar(Scalar::kTrace) : 0.0};
  }

  // All parameters by unit, whole, on every rank (padding left out).
  std::vector<double> gathered_parameters() {
    std::vector<double> out;
    for (size_t u = 0; u < plan_.units.size(); ++u) {
      const auto unit = static_cast<int64_t>(u);
      const Slot* slot = plan_.find_slot(SlotKind::kParameter, unit);
      const Tensor t = executor_->slot(*slot);
      std::vector<double> mine;
      for (int64_t i = 0; i < t.elements(); ++i) mine.push_back(element(t, i));
      std::vector<double> whole = slot->sharded ? executor_->comm().gather_all(mine) : mine;
      for (const Segment& s : plan_.units[u].segments) {
        out.insert(out.end(), whole.begin() + s.offset, whole.begin() + s.offset + s.count);
      }
    }
    return out;
  }

 private:
  static CompileSettings with_ranks(CompileSettings settings, const Communicator& comm) {
    settings.ranks = comm.size();
    settings.fabric = {comm.transport(), comm.window_ranks()};
    return settings;
  }

  GptSpec spec_;
  CompileSettings settings_;
  Plan plan_;
  std::unique_ptr<Executor> executor_;
};

// What some steps lead to, bit by bit.
struct Outcome {
  std::vector<TinyRun::Step> steps;
  std::vector<double> parameters;
  bool operator==(const Outcome&) const = default;
};

inline Outcome outcome_of(TinyRun& run, int steps, double rate = 1e-2) {
  Outcome outcome;
  for (int i = 0; i < steps; ++i) outcome.steps.push_back(run.step(i, rate));
  outcome.parameters = run.gathered_parameters();
  return outcome;
}

}  // namespace memwall::test
