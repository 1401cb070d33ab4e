// Planned bytes by category, against a tracer that sees only steps: which bytes each step's
// operands cover, and until when something reads them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

constexpr int64_t kGranule = 64;

// Bytes alive by category after each step of a program, from operands alone: a granule written by a
// step is alive until its last read before the next write.
class Tracer {
 public:
  Tracer(const Plan& plan, const Program& program) : plan_(plan), program_(program) {
    granules_.resize(static_cast<size_t>(plan.arena_bytes / kGranule + 1));
    for (size_t i = 0; i < program.steps.size(); ++i) {
      const Step& step = program.steps[i];
      for (const Operand& o : step.inputs) add(o, i, false);
      for (const Operand& o : step.addends) add(o, i, false);
      for (const Operand& o : step.outputs) add(o, i, true);
      add(step.workspace, i, true);
    }
  }

  // By category, at each step.
  std::vector<ByCategory> alive() const {
    std::vector<ByCategory> out(program_.steps.size(), ByCategory{});
    const auto first = static_cast<size_t>(plan_.persistent_bytes / kGranule);
    for (size_t g = first; g < granules_.size(); ++g) {
      const std::vector<Access>& list = granules_[g];
      size_t counted = 0;  // steps below this one are done: a granule is one thing at a time
      for (size_t k = 0; k < list.size(); ++k) {
        if (!list[k].writes) continue;
        size_t last = list[k].end;
        for (size_t j = k + 1; j < list.size() && !list[j].writes; ++j) last = list[j].end;
        for (size_t i = std::max(counted, list[k].begin); i <= last; ++i) {
          out[i][list[k].category] += kGranule;
        }
        counted = std::max(counted, last + 1);
      }
    }
    return out;
  }

 private:
  struct Access {
    size_t begin, end;
    bool writes;
    size_t category;
  };

  void add(const Operand& o, size_t step, bool writes) {
    if (o.bytes == 0) return;
    const size_t end = end_of(step);
    const auto category = static_cast<size_t>(plan_.values[static_cast<size_t>(o.value)].category);
    for (int64_t g = o.base / kGranule; g * kGranule < o.base + o.bytes; ++g) {
      granules_[static_cast<size_t>(g)].push_back({step, end, writes, category});
    }
  }
  size_t end_of(size_t step) const {
    if (program_.steps[step].stream == Stream::kCompute) return step;
    for (size_t i = step + 1; i < program_.steps.size(); ++i) {
      for (int32_t waited : program_.steps[i].waits) {
        if (program_.steps[i].stream == Stream::kCompute && static_cast<size_t>(waited) >= step) {
          return i - 1;
        }
      }
    }
    return program_.steps.size() - 1;
  }

  const Plan& plan_;
  const Program& program_;
  std::vector<std::vector<Access>> granules_;
};

// A concat counts as a whole from its first part on, which the tracer cannot see; nothing else may
// differ.
TEST(Categories, AreWhatTheStepsTouch) {
  for (int64_t stage : {0, 1, 3}) {
    for (int64_t micro_steps : {1, 3}) {
      GptSpec spec = tiny_spec(DType::kF32);
      spec.hidden = 64;
      spec.vocabulary = 1024;
      spec.layers = 4;
      CompileSettings settings;
      settings.ranks = 2;
      settings.zero_stage = stage;
      settings.micro_steps = micro_steps;
      const Plan plan = compile(Gpt2(spec), settings);
      ByCategory persistent{};
      for (const Slot& slot : plan.slots) {
        persistent[static_cast<size_t>(plan.values[static_cast<size_t>(slot.value)].category)] +=
            slot.bytes;
      }
      const Program& program = plan.program("last_micro");
      ByCategory maximum = persistent;
      int64_t peak = 0;
      for (const ByCategory& alive : Tracer(plan, program).alive()) {
        int64_t total = 0;
        for (size_t c = 0; c < kCategoryCount; ++c) {
          maximum[c] = std::max(maximum[c], persistent[c] + alive[c]);
          total += persistent[c] + alive[c];
        }
        peak = std::max(peak, total);
      }
      for (size_t c = 0; c < kCategoryCount; ++c) {
        const auto name = name_of(static_cast<Category>(c));
        EXPECT_LE(maximum[c], program.maximum[c] + 4096) << name << " stage " << stage;
        EXPECT_GE(static_cast<double>(maximum[c]) + 8192,
                  0.95 * static_cast<double>(program.maximum[c]))
            << name << " stage " << stage;
      }
      EXPECT_LE(peak, program.live_bytes_peak + 4096);
      EXPECT_GE(static_cast<double>(peak), 0.98 * static_cast<double>(program.live_bytes_peak));
    }
  }
}

}  // namespace
}  // namespace memwall::test
