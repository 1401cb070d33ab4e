#include "runtime/train/overflow.h"

#include <fmt/format.h>

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

// Remembers the first step whose results are not finite. Results of transfers still on their way
// are seen by whoever reads them.
class FiniteCheck : public StepObserver {
 public:
  explicit FiniteCheck(const Executor& executor) : executor_(executor) {}
  void after(const Program& program, size_t step) override {
    const Step& s = program.steps[step];
    if (found_ || s.stream != Stream::kCompute) return;
    for (const Operand& o : s.outputs) {
      if (!all_finite(executor_.operand(o))) found_ = step;
    }
  }
  std::optional<size_t> found() const { return found_; }

 private:
  const Executor& executor_;
  std::optional<size_t> found_;
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

std::string find_overflow(Executor& executor, bool curvature,
                          const std::function<void(const ProgramRun&)>& feed) {
  const Plan& plan = executor.plan();
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    if (run.program.starts_with("update")) break;
    const Program& program = plan.program(run.program);
    FiniteCheck check(executor);
    feed(run);
    executor.set_observer(&check);
    executor.run(program, run.micro_step);
    executor.set_observer(nullptr);
    const auto [step, rank] = earliest(executor.comm(), check.found());
    if (step >= 0) {
      return fmt::format("{} (rank {}, micro-step {})",
                         program.steps[static_cast<size_t>(step)].name, rank, run.micro_step);
    }
  }
  return "";
}

}  // namespace memwall
