// Plans: every setting compiles to one that the verifier accepts and that reads back; every harmful
// mutant is refused; bytes and traffic are what the papers say.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/base/math.h"
#include "runtime/plan/verify.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

Plan plan_of(int64_t ranks, int64_t stage, int64_t micro_steps, int64_t depth,
             DType dtype = DType::kF32, double dropout = 0.1) {
  GptSpec spec = tiny_spec(dtype);
  spec.dropout = dropout;
  CompileSettings settings;
  settings.ranks = ranks;
  settings.zero_stage = stage;
  settings.micro_steps = micro_steps;
  settings.prefetch_depth = depth;
  settings.next_token = true;
  return compile(Gpt2(spec), settings);
}

TEST(Plan, EverySettingCompilesAndReadsBack) {
  for (int64_t ranks : {1, 2, 3, 8}) {
    for (int64_t stage : {0, 1, 2, 3}) {
      for (int64_t micro_steps : {1, 3}) {
        for (int64_t depth : {0, 1, 2}) {
          for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
            SCOPED_TRACE(testing::Message() << "ranks " << ranks << " stage " << stage << " micro "
                                            << micro_steps << " depth " << depth);
            const Plan plan = plan_of(ranks, stage, micro_steps, depth, dtype);
            const std::string text = dump_plan(plan);
            const Plan again = parse_plan(text, "plan");
            EXPECT_EQ(dump_plan(again), text);
            EXPECT_NO_THROW(verify_plan(again));
            EXPECT_GE(plan.arena_bytes, plan.totals.lower_bound);
          }
        }
      }
    }
  }
}

// Over all programs no page of the arena stays unwritten.
TEST(Plan, WritesEveryPageOfItsArena) {
  for (int64_t stage : {0, 1, 2, 3}) {
    for (int64_t rank : {0, 1, 2}) {
      const Plan plan = plan_of(3, stage, 3, 1);
      std::vector<std::string> all;
      for (const Program& p : plan.programs) all.push_back(p.name);
      EXPECT_EQ(written_page_bytes(plan, all, rank), round_up(plan.arena_bytes, plan.page_bytes))
          << "stage " << stage;
    }
  }
}

int64_t state_bytes(const Plan& plan, Category category) {
  int64_t bytes = 0;
  for (const Slot& slot : plan.slots) {
    if (plan.values[static_cast<size_t>(slot.value)].category == category) bytes += slot.bytes;
  }
  return bytes;
}

// The number contract's table: parameters, gradients, optimizer state; bytes a parameter, and
// which of them a stage divides by the ranks.
TEST(Plan, ModelStatesFollowTheTable) {
  struct Row {
    DType dtype;
    int64_t micro_steps;
    double parameters, gradients, optimizer;
  };
  const Row rows[] = {{DType::kF32, 1, 4, 4, 8},   {DType::kF16, 1, 2, 2, 12},
                      {DType::kBF16, 1, 2, 2, 12}, {DType::kF16, 3, 2, 4, 12},
                      {DType::kBF16, 3, 2, 4, 12}, {DType::kF64, 1, 8, 8, 16}};
  GptSpec spec = tiny_spec(DType::kF32);
  spec.hidden = 128;
  const int64_t ranks = 4;
  for (const Row& row : rows) {
    for (int64_t stage : {0, 1, 2, 3}) {
      spec.dtype = row.dtype;
      CompileSettings s;
      s.ranks = ranks;
      s.zero_stage = stage;
      s.micro_steps = row.micro_steps;
      const Plan plan = compile(Gpt2(spec), s);
      const auto psi = static_cast<double>(plan.parameters);
      const double n = static_cast<double>(ranks);
      const double p = row.parameters / (stage >= 3 ? n : 1);
      const bool scattered = stage >= 2 || (stage == 1 && row.micro_steps == 1);
      const double g = row.gradients / (scattered ? n : 1);
      const double o = row.optimizer / (stage >= 1 ? n : 1);
      const auto near = [&](Category c, double expected) {
        EXPECT_NEAR(static_cast<double>(state_bytes(plan, c)) / psi, expected, 0.01 * expected)
            << name_of(c) << " stage " << stage << " dtype " << name_of(row.dtype);
      };
      near(Category::kParameters, p);
      near(Category::kGradients, g);
      near(Category::kOptimizerState, o);
    }
  }
}

// ZeRO's Table 1 (Rajbhandari et al. 2020), in GB: model states of 7.5B, 128B and 1T parameters
// under mixed-precision Adam. Stage 1's row holds gradients whole until backward ends, which ours
// does only while it accumulates (with FP32 accumulators, 2 bytes a parameter more).
TEST(Plan, ReproducesTheZeroPapersTable) {
  struct Model {
    double billions;
    int64_t layers, hidden, heads;
  };
  const Model models[] = {{7.5, 36, 4096, 32}, {128, 80, 11520, 96}, {1000, 126, 25600, 160}};
  const int64_t counts[] = {1, 4, 16, 64, 256, 1024};
  for (const Model& m : models) {
    GptSpec spec;
    spec.layers = m.layers;
    spec.hidden = m.hidden;
    spec.heads = m.heads;
    spec.context = spec.time = 1024;
    spec.vocabulary = 50257;
    spec.dtype = DType::kF16;
    for (int64_t ranks : counts) {
      for (int64_t stage : {1, 2, 3}) {
        CompileSettings s;
        s.ranks = ranks;
        s.zero_stage = stage;
        s.evaluate = false;
        const Plan plan = compile(Gpt2(spec), s);
        const double psi = static_cast<double>(plan.parameters);
        EXPECT_NEAR(psi / 1e9, m.billions, 0.02 * m.billions);
        const auto n = static_cast<double>(ranks);
        const double total = static_cast<double>(state_bytes(plan, Category::kParameters) +
                                                 state_bytes(plan, Category::kGradients) +
                                                 state_bytes(plan, Category::kOptimizerState));
        const double paper = stage == 1   ? 4 * psi + 12 * psi / n
                             : stage == 2 ? 2 * psi + 14 * psi / n
                                          : 16 * psi / n;
        if (stage == 1) {
          EXPECT_LE(total, paper * 1.01);
        } else {
          EXPECT_NEAR(total, paper, 0.01 * paper) << ranks << " ranks, stage " << stage;
        }
      }
    }
  }
}

// The memory wall's own figures for GPT-2 (FP32, Adam, batch 1): 5.86 GB of parameters, 11.62 GB of
// optimizer state, for its 1,500M parameters.
TEST(Plan, StatesOfGpt2XlAreThoseOfTheMemoryWall) {
  GptSpec spec;
  spec.layers = 48;
  spec.hidden = 1600;
  spec.heads = 25;
  spec.context = spec.time = 1024;
  spec.vocabulary = 50257;
  const Plan plan = compile(Gpt2(spec), {});
  EXPECT_EQ(plan.parameters, 1557611200);
  const auto gigabytes = [&](Category c) {
    return static_cast<double>(state_bytes(plan, c)) / 1e9;
  };
  EXPECT_NEAR(gigabytes(Category::kParameters), 5.86, 0.08 * 5.86);
  EXPECT_NEAR(gigabytes(Category::kOptimizerState), 11.62, 0.08 * 11.62);
}

// Algorithmic volume: 2 Psi, 2 Psi, 2 Psi, 3 Psi elements a rank and step; payload is whole
// buffers, so padding is the only difference, and at stage 3 the head's own unit (the final layer
// norm), which forward and backward use back to back, is gathered once.
TEST(Plan, TrafficFollowsTheStage) {
  for (int64_t stage : {0, 1, 2, 3}) {
    const Plan plan = plan_of(4, stage, 1, 0);
    int64_t padded = 0;
    for (const Unit& unit : plan.units) padded += unit.padded;
    const Totals& t = plan.totals;
    EXPECT_EQ(t.reduce_scatter.payload_bytes, 4 * padded);
    const int64_t gathers = stage == 3 ? 2 * padded - plan.units.back().padded : padded;
    EXPECT_EQ(t.all_gather.payload_bytes, 4 * gathers) << "stage " << stage;
    EXPECT_EQ(t.all_gather.wire_bytes, 4 * gathers / 4 * 3);
    EXPECT_EQ(t.reduce_scatter.wire_bytes, 4 * padded / 4 * 3);
    EXPECT_EQ(t.all_reduce.calls, 1);
  }
}

TEST(Plan, AccumulationReducesOnceOrEveryMicroStep) {
  for (int64_t stage : {0, 1, 2, 3}) {
    const Plan one = plan_of(4, stage, 1, 0), three = plan_of(4, stage, 3, 0);
    const int64_t scatters = stage >= 2 ? 3 : 1, gathers = stage == 3 ? 3 : 1;
    EXPECT_EQ(three.totals.reduce_scatter.payload_bytes,
              scatters * one.totals.reduce_scatter.payload_bytes);
    EXPECT_EQ(three.totals.all_gather.payload_bytes, gathers * one.totals.all_gather.payload_bytes);
  }
}

// Accumulators are added to where they lie: a copy would be a whole unit in FP32.
TEST(Plan, CopiesNoAccumulator) {
  for (int64_t stage : {0, 1, 2, 3}) {
    for (DType dtype : {DType::kF32, DType::kF16}) {
      const Plan plan = plan_of(2, stage, 3, 0, dtype);
      for (const char* name : {"micro", "last_micro"}) {
        for (const Step& step : plan.program(name).steps) {
          EXPECT_FALSE(step.name.ends_with("/copy")) << step.name << " stage " << stage;
        }
      }
    }
  }
}

TEST(Plan, OneRankHasNoCollectives) {
  const Plan plan = plan_of(1, 3, 1, 0);
  EXPECT_EQ(plan.totals.all_gather, PlannedTraffic{});
  EXPECT_EQ(plan.totals.reduce_scatter, PlannedTraffic{});
  EXPECT_EQ(plan.totals.all_reduce, PlannedTraffic{});
}

TEST(Plan, BudgetRefusalNamesTheLargestConsumers) {
  const Plan plan = plan_of(2, 0, 1, 0);
  EXPECT_NO_THROW(check_budget(plan, plan.arena_bytes));
  EXPECT_NO_THROW(check_budget(plan, 0));
  try {
    check_budget(plan, plan.arena_bytes - 1);
    FAIL() << "a plan over its budget was accepted";
  } catch (const BudgetError& error) {
    EXPECT_EQ(error.code(), ExitCode::kOverBudget);
    EXPECT_NE(std::string(error.what()).find("optimizer_state"), std::string::npos);
  }
}

// Mutants --------------------------------------------------------------------------------------

Program& program_of(Plan& plan, const std::string& name) {
  for (Program& p : plan.programs) {
    if (p.name == name) return p;
  }
  throw InternalError("no program " + name);
}

bool refused(const Plan& plan) {
  try {
    verify_plan(parse_plan(dump_plan(plan), "mutant"));
    return false;
  } catch (const InputError&) {
    return true;
  }
}

bool touches(const Step& step, const Operand& range, bool reads_too) {
  const auto hit = [&](const Operand& o) {
    return o.bytes > 0 && o.base < range.base + range.bytes && range.base < o.base + o.bytes;
  };
  bool touched = std::any_of(step.outputs.begin(), step.outputs.end(), hit) || hit(step.workspace);
  if (reads_too) touched |= std::any_of(step.inputs.begin(), step.inputs.end(), hit);
  return touched;
}

// Whether step `reader` may not run beside the transfer (rank 0).
bool conflicts(const Step& reader, const Step& transfer) {
  return touches(reader, transfer.inputs[0], false) || touches(reader, transfer.outputs[0], true) ||
         touches(reader, transfer.workspace, true);
}

// A wait is needed where the transfer, or one before it, conflicts with a step from here up to the
// next wait.
bool needed(const Program& program, size_t step) {
  for (size_t i = step; i < program.steps.size(); ++i) {
    const Step& s = program.steps[i];
    if (s.stream != Stream::kCompute) continue;
    if (i > step && !s.waits.empty()) return false;
    for (int32_t t = program.steps[step].waits[0]; t >= 0; --t) {
      const Step& transfer = program.steps[static_cast<size_t>(t)];
      if (transfer.stream == Stream::kCommunication && conflicts(s, transfer)) return true;
      if (transfer.stream == Stream::kCompute && !transfer.waits.empty()) break;
    }
  }
  return false;
}

TEST(PlanMutants, DroppedWaitsOfComputeAreCaughtWhereTheyMatter) {
  for (int64_t depth : {0, 1, 2}) {
    const Plan plan = plan_of(3, 3, 1, depth);
    int mattered = 0;
    for (const char* name : {"last_micro", "update"}) {
      const Program& program = plan.program(name);
      for (size_t i = 0; i < program.steps.size(); ++i) {
        if (program.steps[i].waits.empty()) continue;
        if (program.steps[i].stream != Stream::kCompute || !needed(program, i)) continue;
        Plan mutant = plan;
        program_of(mutant, name).steps[i].waits.clear();
        EXPECT_TRUE(refused(mutant)) << name << " step " << i << " depth " << depth;
        ++mattered;
      }
    }
    EXPECT_GT(mattered, 5);
  }
}

TEST(PlanMutants, DroppedWaitsOfTransfersAreCaught) {
  const Plan plan = plan_of(3, 3, 1, 1);
  int caught = 0, dropped = 0;
  const Program& program = plan.program("last_micro");
  for (size_t i = 0; i < program.steps.size(); ++i) {
    if (program.steps[i].op != Op::kReduceScatter) continue;
    Plan mutant = plan;
    program_of(mutant, "last_micro").steps[i].waits.clear();
    ++dropped;
    caught += refused(mutant);
  }
  EXPECT_EQ(caught, dropped);
  EXPECT_GT(dropped, 3);
}

// Moving any transient result elsewhere breaks a reader, or lands on something alive.
TEST(PlanMutants, MovedResultsAreCaught) {
  const Plan plan = plan_of(2, 3, 1, 0);
  const Program& program = plan.program("last_micro");
  for (size_t i = 0; i < program.steps.size(); ++i) {
    for (size_t k = 0; k < program.steps[i].outputs.size(); ++k) {
      Plan mutant = plan;
      program_of(mutant, "last_micro").steps[i].outputs[k].base += 64;
      EXPECT_TRUE(refused(mutant)) << program.steps[i].name;
    }
  }
}

TEST(PlanMutants, OverlappingLifetimesAreCaught) {
  const Plan plan = plan_of(2, 0, 1, 0);
  const Program& program = plan.program("last_micro");
  // The first block's saved activation, placed where the second block writes.
  for (size_t i = 0; i < program.steps.size(); ++i) {
    if (program.steps[i].name != "block0/mlp/fc1.bias+gelu") continue;
    Plan mutant = plan;
    Program& p = program_of(mutant, "last_micro");
    const int32_t value = p.steps[i].outputs[1].value;
    int64_t other = -1;
    for (const Step& s : p.steps) {
      if (s.name == "block1/mlp/fc1.bias+gelu") other = s.outputs[1].base;
    }
    ASSERT_GE(other, 0);
    for (Step& s : p.steps) {
      for (auto* list : {&s.inputs, &s.outputs}) {
        for (Operand& o : *list) {
          if (o.value == value) o.base = other + o.start;
        }
      }
    }
    EXPECT_TRUE(refused(mutant));
    return;
  }
  FAIL() << "no such step";
}

TEST(PlanMutants, SwappedStepsAreCaught) {
  const Plan plan = plan_of(2, 3, 1, 0);
  int caught = 0, tried = 0;
  for (size_t i = 0; i + 1 < plan.program("last_micro").steps.size(); ++i) {
    const Step& a = plan.program("last_micro").steps[i];
    const Step& b = plan.program("last_micro").steps[i + 1];
    bool reads = false;  // b reads what a writes
    for (const Operand& in : b.inputs) {
      for (const Operand& out : a.outputs) reads |= in.value == out.value && in.start == out.start;
    }
    if (!reads) continue;
    Plan mutant = plan;
    Program& p = program_of(mutant, "last_micro");
    std::swap(p.steps[i], p.steps[i + 1]);
    ++tried;
    caught += refused(mutant);
  }
  EXPECT_EQ(caught, tried);
  EXPECT_GT(tried, 20);
}

TEST(PlanMutants, BrokenBodiesAreCaught) {
  const Plan plan = plan_of(2, 3, 1, 0);
  const Program& program = plan.program("last_micro");
  ASSERT_FALSE(program.bodies.empty());
  for (size_t b = 0; b < program.bodies.size(); ++b) {
    for (size_t i = 0; i + 1 < program.bodies[b].steps.size(); ++i) {
      Plan mutant = plan;
      std::vector<Step>& steps = program_of(mutant, "last_micro").bodies[b].steps;
      steps.erase(steps.begin() + static_cast<int64_t>(i));
      EXPECT_TRUE(refused(mutant)) << program.bodies[b].steps[i].name;
    }
  }
}

TEST(PlanMutants, AForgottenAddendIsCaught) {
  const Plan plan = plan_of(2, 1, 3, 0);
  for (const char* name : {"micro", "last_micro"}) {
    for (size_t i = 0; i < plan.program(name).steps.size(); ++i) {
      if (plan.program(name).steps[i].addends.empty()) continue;
      Plan mutant = plan;
      Step& step = program_of(mutant, name).steps[i];
      for (Operand& o : step.addends) o.start += 64;
      EXPECT_TRUE(refused(mutant)) << step.name;
    }
  }
}

TEST(PlanText, DamageIsRefusedWithItsLine) {
  const std::string text = dump_plan(plan_of(2, 3, 1, 0));
  const auto message = [](const std::string& damaged) {
    try {
      verify_plan(parse_plan(damaged, "p.txt"));
      return std::string("accepted");
    } catch (const InputError& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(message(text).find("accepted"), 0u);
  EXPECT_NE(message("hello\n").find("p.txt"), std::string::npos);
  EXPECT_NE(message(text.substr(0, text.size() / 2)).find("p.txt"), std::string::npos);
  std::string edited = text;
  edited.replace(edited.find("op=gemm"), 7, "op=gemn");
  EXPECT_NE(message(edited).find("unknown op"), std::string::npos);
  EXPECT_NE(message(edited).find("p.txt:"), std::string::npos);
}

}  // namespace
}  // namespace memwall::test
