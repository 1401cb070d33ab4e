// Every operand, accumulation rule, body, collective and slot result of whole plans, changed one at
// a time: verify_plan refuses each change that could give other numbers. Changes that cannot (a
// result that nobody reads moved to free bytes, a period of what does not advance) are left out.
#include <gtest/gtest.h>

#include <functional>

#include "runtime/plan/verify.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

// Chunked attention and several micro-steps, so that every rule of accumulation occurs.
Plan plan_of(int64_t ranks, int64_t stage, int64_t micro_steps, int64_t depth) {
  GptSpec spec = tiny_spec(DType::kF32);
  spec.layers = 1;
  spec.context = spec.time = 512;
  spec.dropout = 0.1;
  CompileSettings settings;
  settings.ranks = ranks;
  settings.zero_stage = stage;
  settings.micro_steps = micro_steps;
  settings.prefetch_depth = depth;
  settings.next_token = true;
  return compile(Gpt2(spec), settings);
}

std::vector<Plan> plans() {
  std::vector<Plan> out;
  out.push_back(plan_of(3, 0, 2, 0));
  out.push_back(plan_of(3, 1, 2, 1));
  out.push_back(plan_of(3, 3, 1, 1));
  return out;
}

bool refused(const Plan& plan) {
  try {
    verify_plan(plan);
    return false;
  } catch (const InputError&) {
    return true;
  }
}

// visit(step of the plan, its body or null).
void each_step(Plan& plan, const std::function<void(Program&, Step&, Body*)>& visit) {
  for (Program& program : plan.programs) {
    for (Step& step : program.steps) visit(program, step, nullptr);
    for (Body& body : program.bodies) {
      for (Step& step : body.steps) visit(program, step, &body);
    }
  }
}

// `change` is undone after the verifier's verdict.
template <class T, class Change>
void expect_refused(const Plan& plan, const std::string& what, T& part, const Change& change,
                    int& tried) {
  const T before = part;
  change(part);
  EXPECT_TRUE(refused(plan)) << what;
  part = before;
  ++tried;
}

TEST(Mutants, OperandsOfOtherPlaceSizeOrType) {
  struct Mutation {
    const char* name;
    void (*change)(Operand&);
  };
  const Mutation inputs[] = {
      {"base", [](Operand& o) { o.base += 64; }},
      {"start", [](Operand& o) { o.start += 64; }},
      {"bytes more", [](Operand& o) { o.bytes += 64; }},
      {"bytes less", [](Operand& o) { o.bytes -= 4; }},
      {"rank stride", [](Operand& o) { o.rank_stride += 64; }},
      {"rank start", [](Operand& o) { o.rank_start += 64; }},
      {"dtype", [](Operand& o) { o.dtype = o.dtype == DType::kF32 ? DType::kI32 : DType::kBF16; }},
  };
  for (Plan& plan : plans()) {
    int tried = 0;
    each_step(plan, [&](Program& program, Step& step, Body*) {
      for (auto* list : {&step.inputs, &step.addends}) {
        for (Operand& o : *list) {
          if (o.bytes == 0) continue;
          for (const Mutation& m : inputs) {
            const std::string what = program.name + " " + step.name + " " + m.name;
            expect_refused(plan, what, o, m.change, tried);
          }
        }
      }
    });
    EXPECT_GT(tried, 1000);
  }
}

TEST(Mutants, BodiesThatWalkOtherwise) {
  struct Mutation {
    const char* name;
    void (*change)(Operand&);
  };
  const Mutation mutations[] = {
      {"period", [](Operand& o) { o.period *= 2; }},
      {"shorter steps", [](Operand& o) { o.iteration_bytes /= 2; }},
      {"shorter steps in value and place",
       [](Operand& o) { o.iteration_bytes = o.iteration_start = o.iteration_bytes / 2; }},
      {"longer steps", [](Operand& o) { o.iteration_bytes += 64; }},
  };
  for (Plan& plan : plans()) {
    int tried = 0;
    each_step(plan, [&](Program& program, Step& step, Body* body) {
      if (body == nullptr) return;
      for (auto* list : {&step.inputs, &step.outputs}) {
        for (Operand& o : *list) {
          if (o.iteration_bytes == 0) continue;  // the body's own
          for (const Mutation& m : mutations) {
            const std::string what = program.name + " " + step.name + " " + m.name;
            expect_refused(plan, what, o, m.change, tried);
          }
        }
      }
    });
    for (Program& program : plan.programs) {
      for (Body& body : program.bodies) {
        const auto half = [](int64_t& count) { count /= 2; };
        const auto twice = [](int64_t& count) { count *= 2; };
        if (body.count > 1) expect_refused(plan, "half the iterations", body.count, half, tried);
        expect_refused(plan, "twice the iterations", body.count, twice, tried);
      }
    }
    EXPECT_GT(tried, 100);
  }
}

// 2 -> 1 alone is harmless in last_micro, which follows another micro-step.
TEST(Mutants, OtherRulesOfAccumulation) {
  for (Plan& plan : plans()) {
    int tried = 0;
    each_step(plan, [&](Program& program, Step& step, Body* body) {
      for (int rule = 0; rule < 5; ++rule) {
        const auto other = static_cast<Accumulate>(rule);
        if (other == step.accumulate) continue;
        if (step.accumulate == Accumulate::kUnlessFirstMicroStep && other == Accumulate::kAlways &&
            program.name == "last_micro") {
          continue;
        }
        const std::string what = program.name + " " + step.name + " rule " +
                                 std::to_string(static_cast<int>(step.accumulate)) + " to " +
                                 std::to_string(rule);
        expect_refused(
            plan, what, step.accumulate, [&](Accumulate& a) { a = other; }, tried);
      }
      if (body != nullptr && step.accumulate != Accumulate::kNever) {
        const auto period = [](int64_t& p) { p *= 2; };
        expect_refused(plan, program.name + " " + step.name, step.accumulate_period, period, tried);
      }
    });
    EXPECT_GT(tried, 400);
  }
}

TEST(Mutants, TransfersOnTheWrongStreamOrWithoutRoom) {
  for (Plan& plan : plans()) {
    int tried = 0;
    each_step(plan, [&](Program& program, Step& step, Body* body) {
      if (body != nullptr) return;
      const bool transfer = step.stream == Stream::kCommunication;
      const std::string what = program.name + " " + step.name;
      expect_refused(
          plan, what, step.stream,
          [&](Stream& s) { s = transfer ? Stream::kCompute : Stream::kCommunication; }, tried);
      if (transfer && step.workspace.bytes > 0) {
        const auto smaller = [](Operand& o) {
          o.bytes -= 64;
          o.shape = Shape{o.bytes / 4};
        };
        expect_refused(plan, what + " receives", step.workspace, smaller, tried);
      }
      if (!step.in_place.empty() && step.inputs[0].base == step.outputs[0].base) {
        const auto none = [](std::vector<std::pair<int32_t, int32_t>>& pairs) { pairs.clear(); };
        expect_refused(plan, what + " in place", step.in_place, none, tried);
      }
    });
    EXPECT_GT(tried, 60);
  }
}

TEST(Mutants, ProgramsThatNobodyRuns) {
  Plan plan = plan_of(2, 3, 1, 0);
  plan.programs.back().name = "another";
  EXPECT_TRUE(refused(plan));
}

// Also those that only the host reads: scalars, losses, logits.
TEST(Mutants, ForgottenResultsAndInput) {
  for (Plan& plan : plans()) {
    int tried = 0;
    for (Program& program : plan.programs) {
      for (size_t k = 0; k < program.results.size(); ++k) {
        const auto drop = [&](std::vector<SlotResult>& results) {
          results.erase(results.begin() + static_cast<int64_t>(k));
        };
        expect_refused(plan, program.name + " result " + std::to_string(k), program.results, drop,
                       tried);
      }
      for (size_t k = 0; k < program.host_slots.size(); ++k) {
        const Slot& slot = plan.slots[static_cast<size_t>(program.host_slots[k])];
        // Scalars are fed once a step.
        if (slot.kind == SlotKind::kScalars && plan.micro_steps > 1 &&
            program.name == "last_micro") {
          continue;
        }
        const auto drop = [&](std::vector<int32_t>& slots) {
          slots.erase(slots.begin() + static_cast<int64_t>(k));
        };
        expect_refused(plan, program.name + " without " + std::string(name_of(slot.kind)),
                       program.host_slots, drop, tried);
      }
    }
    EXPECT_GT(tried, 15);
  }
}

}  // namespace
}  // namespace memwall::test
