// Live bytes of a plan made by hand, and of compiled plans against what placement counted from
// lifetimes of values, and against the bytes that each step's own operands cover.
#include "runtime/report/live_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"
#include "runtime/report/live_json.h"

namespace memwall::test {
namespace {

int64_t sum(const ByCategory& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
}
int64_t of(const ByCategory& bytes, Category category) {
  return bytes[static_cast<size_t>(category)];
}

class HandMade {
 public:
  HandMade() {
    plan_.persistent_bytes = 64;
    plan_.arena_bytes = 352;
    Slot slot;
    slot.bytes = 64;
    slot.value = value("w", Category::kParameters, 64);
    plan_.slots.push_back(slot);
    const Operand a = at(64, value("a", Category::kActivations, 64));
    const Operand b = at(128, value("b", Category::kCommunication, 128));
    const Operand scratch = at(256, value("scratch", Category::kWorkspace, 32));
    const Operand c = at(288, value("c", Category::kGradients, 32));
    const Operand d = at(64, value("d", Category::kActivations, 32));
    const Operand e = at(320, value("e", Category::kActivations, 32));
    const Operand f = at(320, value("f", Category::kActivations, 32));
    Program micro;
    micro.name = "last_micro";
    micro.steps = {step({}, {a}), step({a}, {b}), step({b}, {c}),
                   step({}, {d}), step({c}, {e}), step({e}, {f})};
    micro.steps[1].workspace = scratch;
    micro.steps[2].stream = Stream::kCommunication;
    micro.steps[2].waits = {1};
    micro.steps[4].waits = {2};
    micro.steps[4].backward = true;
    Program update;
    update.name = "update";
    update.steps = {step({}, {})};
    plan_.programs = {micro, update};
  }
  const Plan& plan() const { return plan_; }

 private:
  int32_t value(const char* name, Category category, int64_t bytes) {
    plan_.values.push_back({name, category, bytes});
    return static_cast<int32_t>(plan_.values.size()) - 1;
  }
  Operand at(int64_t base, int32_t value) const {
    Operand out;
    out.value = value;
    out.base = base;
    out.bytes = plan_.values[static_cast<size_t>(value)].bytes;
    return out;
  }
  static Step step(std::vector<Operand> in, std::vector<Operand> out) {
    Step s;
    s.inputs = std::move(in);
    s.outputs = std::move(out);
    return s;
  }

  Plan plan_;
};

// By position: a; a, b and scratch; b and c, for the transfer is waited for at 4; with d in a's
// place; e in place of d, which nothing reads; f in the place of e, which it is made from.
TEST(LiveBytes, OfAPlanMadeByHand) {
  const LiveBytes live = live_bytes(HandMade().plan());
  std::vector<int64_t> totals;
  for (const ByCategory& bytes : live.bytes) totals.push_back(sum(bytes));
  EXPECT_EQ(totals, (std::vector<int64_t>{128, 288, 224, 256, 256, 96, 64}));
  EXPECT_EQ(of(live.bytes[3], Category::kCommunication), 128);
  EXPECT_EQ(of(live.bytes[5], Category::kCommunication), 0);
  EXPECT_EQ(of(live.bytes[1], Category::kWorkspace), 32);
  EXPECT_EQ(of(live.bytes[2], Category::kWorkspace), 0);
  for (const ByCategory& bytes : live.bytes) EXPECT_EQ(of(bytes, Category::kParameters), 64);
  EXPECT_EQ(live.peak_position, 1);
  EXPECT_EQ(live.peak_bytes, 288);
  ASSERT_EQ(live.holders.size(), 4u);
  EXPECT_EQ(live.holders[0].name, "b");
  EXPECT_EQ(live.holders[0].first, 1);
  EXPECT_EQ(live.holders[0].last, 4);
  EXPECT_EQ(live.holders[1].bytes, 64);
  EXPECT_EQ(live.holders[3].name, "scratch");
  ASSERT_EQ(live.programs.size(), 2u);
  EXPECT_EQ(live.programs[0].backward, 4);
  EXPECT_EQ(live.programs[1].backward, -1);
  EXPECT_EQ(live.programs[1].first, 6);
  EXPECT_EQ(live.programs[1].peak_bytes, 64);
}

struct Case {
  int64_t ranks, stage, micro_steps;
  DType dtype;
  bool curvature;
  int64_t prefetch_depth = 0;
};

Plan plan_of(const Case& c) {
  GptSpec spec;
  spec.layers = 3;
  spec.hidden = 64;
  spec.heads = 2;
  spec.context = spec.time = 32;
  spec.vocabulary = 512;
  spec.batch = 2;
  spec.dtype = c.dtype;
  CompileSettings settings;
  settings.ranks = c.ranks;
  settings.zero_stage = c.stage;
  settings.micro_steps = c.micro_steps;
  settings.prefetch_depth = c.prefetch_depth;
  if (c.curvature) settings.optimizer = AdaHessianSettings{};
  return compile(Gpt2(spec), settings);
}

const std::vector<Case> kCases = {
    {1, 0, 1, DType::kF32, false}, {2, 1, 1, DType::kF32, false}, {2, 2, 3, DType::kF32, false},
    {4, 3, 1, DType::kF16, false}, {2, 3, 2, DType::kF32, true},  {4, 3, 2, DType::kF32, false, 2},
};

TEST(LiveBytes, HaveThePeakThatPlacementCounted) {
  for (const Case& c : kCases) {
    const Plan plan = plan_of(c);
    const LiveBytes live = live_bytes(plan);
    int64_t most = 0;
    for (const LiveProgram& p : live.programs) {
      EXPECT_EQ(p.peak_bytes, plan.program(p.name).live_bytes_peak) << p.name << c.stage;
      most = std::max(most, p.peak_bytes);
    }
    EXPECT_EQ(live.peak_bytes, most);
    // No placement can do with less, and this one's arena holds it.
    EXPECT_LE(live.peak_bytes, plan.totals.lower_bound);
    EXPECT_LE(plan.totals.lower_bound, plan.arena_bytes);
    for (const ByCategory& bytes : live.bytes) EXPECT_LE(sum(bytes), plan.arena_bytes);
  }
}

TEST(LiveBytes, HaveThePlannedCategoriesAtThePeak) {
  for (const Case& c : kCases) {
    const Plan plan = plan_of(c);
    const LiveBytes live = live_bytes(plan);
    const ByCategory& there = live.bytes[static_cast<size_t>(live.peak_position)];
    for (const LiveProgram& p : live.programs) {
      if (live.peak_position < p.first || live.peak_position >= p.first + p.steps) continue;
      for (size_t k = 0; k < kCategoryCount; ++k) {
        EXPECT_EQ(there[k], plan.program(p.name).at_peak[k]) << name_of(static_cast<Category>(k));
      }
    }
  }
}

// Bytes of the transient region that a step's operands cover, each once.
int64_t covered(const Plan& plan, const Step& step) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto* list : {&step.inputs, &step.outputs, &step.addends}) {
    for (const Operand& o : *list) {
      if (o.bytes > 0 && o.base >= plan.persistent_bytes)
        ranges.emplace_back(o.base, o.base + o.bytes);
    }
  }
  if (step.workspace.bytes > 0) {
    ranges.emplace_back(step.workspace.base, step.workspace.base + step.workspace.bytes);
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t out = 0, end = 0;
  for (const auto& [from, to] : ranges) {
    out += std::max<int64_t>(0, to - std::max(from, end));
    end = std::max(end, to);
  }
  return out;
}

TEST(LiveBytes, HoldAtLeastWhatTheStepTouches) {
  for (const Case& c : kCases) {
    const Plan plan = plan_of(c);
    const LiveBytes live = live_bytes(plan);
    int64_t slots = 0;
    for (const Slot& slot : plan.slots) slots += slot.bytes;
    for (const LiveProgram& p : live.programs) {
      const Program& program = plan.program(p.name);
      ASSERT_EQ(program.steps.size(), static_cast<size_t>(p.steps));
      for (size_t i = 0; i < program.steps.size(); ++i) {
        EXPECT_GE(sum(live.bytes[static_cast<size_t>(p.first) + i]),
                  slots + covered(plan, program.steps[i]))
            << program.steps[i].name;
      }
    }
  }
}

TEST(LiveBytes, HoldersAtThePeakAddUpToIt) {
  for (const Case& c : kCases) {
    const LiveBytes live = live_bytes(plan_of(c));
    int64_t bytes = 0, before = INT64_MAX;
    for (const Holder& h : live.holders) {
      EXPECT_LE(h.first, live.peak_position) << h.name;
      EXPECT_GE(h.last, live.peak_position) << h.name;
      EXPECT_FALSE(h.name.empty());
      EXPECT_LE(h.bytes, before);
      before = h.bytes;
      bytes += h.bytes;
    }
    EXPECT_EQ(bytes, live.peak_bytes);
  }
}

TEST(LiveBytes, JsonKeepsThePeakAndEveryByte) {
  const Plan plan = plan_of(kCases[3]);
  const LiveBytes live = live_bytes(plan);
  const auto json = live_json(plan);
  EXPECT_EQ(json["positions"], live.bytes.size());
  int64_t at_peak = 0;
  for (size_t i = 0; i < json["position"].size(); ++i) {
    if (json["position"][i] != live.peak_position) continue;
    for (const auto& [name, column] : json["bytes"].items()) at_peak += column[i].get<int64_t>();
  }
  EXPECT_EQ(at_peak, live.peak_bytes);
  int64_t held = json["other_holders"]["bytes"].get<int64_t>();
  for (const auto& holder : json["holders"]) held += holder["bytes"].get<int64_t>();
  EXPECT_EQ(held, live.peak_bytes);
  EXPECT_LE(json["holders"].size(), 30u);
}

}  // namespace
}  // namespace memwall::test
