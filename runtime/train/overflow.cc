#include "runtime/train/overflow.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

namespace memwall {
namespace {

bool finite_half(uint16_t bits) {
  return (bits & 0x7c00) != 0x7c00;
}
bool finite_bfloat(uint16_t bits) {
  return (bits & 0x7f80) != 0x7f80;
}

bool all_finite(const Tensor& t) {
  const int64_t n = t.elements();
  const auto every = [n](const auto* data, auto finite) {
    for (int64_t i = 0; i < n; ++i) {
      if (!finite(data[i])) return false;
    }
    return true;
  };
  switch (t.dtype) {
    case DType::kF16: return every(t.as<uint16_t>(), finite_half);
    case DType::kBF16: return every(t.as<uint16_t>(), finite_bfloat);
    case DType::kF32: return every(t.as<float>(), [](float x) { return std::isfinite(x); });
    case DType::kF64: return every(t.as<double>(), [](double x) { return std::isfinite(x); });
    case DType::kI32:
    case DType::kI64: return true;
  }
  return true;
}

// Remembers the first step whose results are not finite. A transfer's are looked at when something
// has waited for it, or at the end.
class FiniteCheck : public StepObserver {
 public:
  FiniteCheck(const Executor& executor, bool tangents) : executor_(executor), tangents_(tangents) {}

  void before(const Program& program, size_t step) override {
    for (int32_t waited : program.steps[step].waits) {
      const auto w = static_cast<size_t>(waited);
      if (program.steps[w].stream == Stream::kCommunication) look_at(program, w);
    }
  }
  void after(const Program& program, size_t step) override {
    if (program.steps[step].stream == Stream::kCompute) look_at(program, step);
  }
  // The program has run.
  void finish(const Program& program) {
    for (size_t i = 0; i < program.steps.size() && !found_; ++i) {
      const Step& s = program.steps[i];
      const bool kept =
          std::any_of(program.results.begin(), program.results.end(),
                      [&](const SlotResult& r) { return r.where.value == s.outputs[0].value; });
      if (s.stream == Stream::kCommunication && kept) look_at(program, i);
    }
  }
  std::optional<size_t> found() const { return found_; }

 private:
  void look_at(const Program& program, size_t step) {
    const Step& s = program.steps[step];
    const bool of_tangents = s.tangent || s.name.find("/curvature/") != std::string::npos;
    if (found_ || (of_tangents && !tangents_)) return;
    const size_t results = s.dual && !tangents_ ? s.outputs.size() / 2 : s.outputs.size();
    for (size_t k = 0; k < results; ++k) {
      const Tensor result = executor_.fetch_into(copy_, executor_.operand(s.outputs[k]));
      if (!all_finite(result)) found_ = step;
    }
  }

  const Executor& executor_;
  bool tangents_;
  std::optional<size_t> found_;
  std::vector<std::byte> copy_;  // of a result on a GPU
};

// The lowest step over ranks, with its rank; none: -1.
std::pair<int64_t, size_t> earliest(Communicator& comm, const std::optional<size_t>& mine) {
  const std::vector<double> all = comm.gather_all({mine ? static_cast<double>(*mine) : -1.0});
  std::pair<int64_t, size_t> best{-1, 0};
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const auto step = static_cast<int64_t>(all[rank]);
    if (step >= 0 && (best.first < 0 || step < best.first)) best = {step, rank};
  }
  return best;
}

}  // namespace

std::string find_overflow(Executor& executor, bool curvature, bool of_curvature,
                          const std::function<void(const ProgramRun&)>& feed) {
  const Plan& plan = executor.plan();
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    if (run.program.starts_with("update")) break;
    const Program& program = plan.program(run.program);
    FiniteCheck check(executor, of_curvature);
    feed(run);
    executor.set_observer(&check);
    executor.run(program, run.micro_step);
    executor.set_observer(nullptr);
    check.finish(program);
    const auto [step, rank] = earliest(executor.comm(), check.found());
    if (step >= 0) {
      return fmt::format("{} (rank {}, micro-step {})",
                         program.steps[static_cast<size_t>(step)].name, rank, run.micro_step);
    }
  }
  return "";
}

}  // namespace memwall
