// Overwrites every byte of the arena with NaNs as soon as no step will read it again before it is
// written: a plan that gives the same numbers so has no value living on borrowed memory.
//
// Works from the steps' operands and waits alone, never from what placement computed.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "runtime/exec/executor.h"

namespace memwall::test {

class PoisoningObserver : public StepObserver {
 public:
  explicit PoisoningObserver(Executor& executor)
      : executor_(executor), rank_(executor.comm().rank()) {}

  void before(const Program& program, size_t step) override { poison(program, 2 * step); }
  void after(const Program& program, size_t step) override { poison(program, 2 * step + 1); }
  int64_t poisoned_bytes() const { return poisoned_; }

 private:
  static constexpr int64_t kGranule = 64;
  // Time 2i is before step i (its waits are over), 2i + 1 after it.
  struct Access {
    size_t begin, end;
    bool overwrites;
  };
  using Moments = std::map<size_t, std::vector<int64_t>>;  // granules to poison, by time

  void poison(const Program& program, size_t time) {
    const auto entry = moments_.try_emplace(&program);
    if (entry.second) entry.first->second = find_moments(program);
    const auto granules = entry.first->second.find(time);
    if (granules == entry.first->second.end()) return;
    for (int64_t g : granules->second) {
      std::memset(executor_.arena_data() + g * kGranule, 0xff, kGranule);
      poisoned_ += kGranule;
    }
  }

  void add(const Operand& o, size_t begin, size_t end, bool overwrites) {
    if (o.bytes == 0) return;
    const int64_t low = o.base + rank_ * o.rank_stride, high = low + o.bytes;
    for (int64_t g = low / kGranule; g * kGranule < high; ++g) {
      const bool whole = g * kGranule >= low && (g + 1) * kGranule <= high;
      accesses_[static_cast<size_t>(g)].push_back({begin, end, overwrites && whole});
    }
  }

  // A transfer is over when the first compute step that waits for it, or for a later one, starts.
  static size_t end_of(const Program& program, size_t step) {
    if (program.steps[step].stream == Stream::kCompute) return 2 * step + 1;
    for (size_t i = step + 1; i < program.steps.size(); ++i) {
      if (program.steps[i].stream != Stream::kCompute) continue;
      for (int32_t waited : program.steps[i].waits) {
        if (static_cast<size_t>(waited) >= step) return 2 * i;
      }
    }
    return 2 * program.steps.size();
  }

  Moments find_moments(const Program& program) {
    const Plan& plan = executor_.plan();
    accesses_.assign(static_cast<size_t>(plan.arena_bytes / kGranule + 1), {});
    for (size_t i = 0; i < program.steps.size(); ++i) {
      const Step& step = program.steps[i];
      const size_t begin = 2 * i + 1, end = end_of(program, i);
      for (const Operand& o : step.inputs) add(o, begin, end, false);
      for (const Operand& o : step.addends) add(o, begin, end, false);
      add(step.workspace, begin, end, true);
      for (const Operand& o : step.outputs) add(o, begin, end, true);
    }
    Moments moments;
    const auto first = static_cast<size_t>(plan.persistent_bytes / kGranule);
    for (size_t g = first; g < accesses_.size(); ++g) {
      std::vector<Access>& list = accesses_[g];
      for (size_t k = 0; k < list.size(); ++k) {
        size_t last = list[k].end;
        for (size_t j = 0; j <= k; ++j) last = std::max(last, list[j].end);
        const bool dead =
            k + 1 == list.size() ||
            (list[k + 1].overwrites && list[k + 1].begin > last && !reads_at(list, k + 1));
        if (dead) moments[last].push_back(static_cast<int64_t>(g));
      }
    }
    return moments;
  }

  // Whether the step of access `k` reads the granule as well.
  static bool reads_at(const std::vector<Access>& list, size_t k) {
    return std::any_of(list.begin(), list.end(),
                       [&](const Access& a) { return a.begin == list[k].begin && !a.overwrites; });
  }

  Executor& executor_;
  int64_t rank_, poisoned_ = 0;
  std::map<const Program*, Moments> moments_;
  std::vector<std::vector<Access>> accesses_;
};

}  // namespace memwall::test
