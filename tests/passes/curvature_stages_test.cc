// ADAHESSIAN under ZeRO: stages agree bitwise, N ranks agree with one, and what is planned is what
// is moved and touched.
#include <gtest/gtest.h>

#include "comm/self/self_communicator.h"
#include "tests/support/delayed.h"
#include "tests/support/mpi_world.h"
#include "tests/support/pmpi_shim.h"
#include "tests/support/poison.h"
#include "tests/support/tiny_run.h"
#include "tests/support/window_shim.h"

namespace memwall::test {
namespace {

CompileSettings settings_of(int64_t stage, int64_t micro_steps, AdaHessianSettings adahessian) {
  CompileSettings s;
  s.zero_stage = stage;
  s.micro_steps = micro_steps;
  s.grad_clip = 0.5;
  s.evaluate = false;
  s.direction_seed = 5;
  adahessian.weight_decay = 0.01;
  s.optimizer = adahessian;
  return s;
}

struct Case {
  const char* name;
  int64_t micro_steps;
  AdaHessianSettings adahessian;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};
class CurvatureStages : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Settings, CurvatureStages,
                         testing::Values(Case{"blocks", 1, {}},
                                         Case{"rows", 1, {.averaging_block = kWholeRows}},
                                         Case{"blocks_of_48", 1, {.averaging_block = 48}},
                                         Case{"every_third_step", 1, {.update_every = 3}},
                                         Case{"micro_steps", 3, {.averaging_block = kWholeRows}},
                                         Case{"probes", 1, {.probes = 3}},
                                         Case{"two_of_both", 2, {.probes = 2}}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_P(CurvatureStages, AgreeBitwise) {
  const Case& c = GetParam();
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    std::vector<Outcome> outcomes;
    for (int64_t stage : {0, 1, 2, 3}) {
      TinyRun run(dropping(dtype), settings_of(stage, c.micro_steps, c.adahessian), world());
      outcomes.push_back(outcome_of(run, 4));
    }
    EXPECT_EQ(outcomes[0], outcomes[1]) << name_of(dtype);
    EXPECT_EQ(outcomes[2], outcomes[3]) << name_of(dtype);
    if (c.micro_steps * c.adahessian.probes == 1) {
      EXPECT_EQ(outcomes[1], outcomes[2]) << name_of(dtype);
    }
    for (const TinyRun::Step& step : outcomes[0].steps) EXPECT_TRUE(std::isfinite(step.loss));
    EXPECT_NE(outcomes[0].steps[0].trace, 0.0);
    EXPECT_NE(outcomes[0].steps[0].loss, outcomes[0].steps[3].loss);
  }
}

TEST(CurvatureStage, AgreeBitwiseOverFiftySteps) {
  for (DType dtype : {DType::kF32, DType::kF16}) {
    std::vector<Outcome> outcomes;
    for (int64_t stage : {0, 1, 2, 3}) {
      CompileSettings settings = settings_of(stage, 1, {});
      if (stage == 3) settings.checkpointing.kind = Checkpointing::kBlock;
      TinyRun run(dropping(dtype), settings, world());
      outcomes.push_back(outcome_of(run, 50));
      EXPECT_EQ(outcomes.back(), outcomes.front()) << name_of(dtype) << " stage " << stage;
    }
    EXPECT_TRUE(std::isfinite(outcomes[0].steps.back().loss));
  }
}

// Transfers as early and as late as the waits allow, and freed memory overwritten.
TEST_P(CurvatureStages, DoNotDependOnTiming) {
  const Case& c = GetParam();
  for (int64_t stage : {0, 1, 3}) {
    CompileSettings settings = settings_of(stage, c.micro_steps, c.adahessian);
    TinyRun plain(dropping(DType::kF16), settings, world());
    const Outcome expected = outcome_of(plain, 3);
    for (bool late : {false, true}) {
      EagerCommunicator eager(world());
      LateCommunicator delayed(world());
      Communicator& comm = late ? static_cast<Communicator&>(delayed) : eager;
      settings.prefetch_depth = 2;
      settings.checkpointing.kind = late ? Checkpointing::kBlock : Checkpointing::kNone;
      TinyRun run(dropping(DType::kF16), settings, comm);
      PoisoningObserver poison(run.executor());
      run.executor().set_observer(&poison);
      EXPECT_EQ(outcome_of(run, 3), expected) << "stage " << stage << " late " << late;
    }
  }
}

TEST(CurvatureStage, ManyRanksAgreeWithOne) {
  struct Precision {
    DType dtype;
    int steps;
    double tolerance;
  };
  for (const Precision& p : {Precision{DType::kF64, 50, 1e-9}, Precision{DType::kF32, 10, 1e-5}}) {
    for (int64_t block : {int64_t{32}, kWholeRows}) {
      GptSpec spec = dropping(p.dtype);
      TinyRun many(spec, settings_of(3, 1, {.averaging_block = block}), world());
      const Outcome sharded = outcome_of(many, p.steps);
      spec.batch *= world().size();
      SelfCommunicator self;
      TinyRun one(spec, settings_of(0, 1, {.averaging_block = block}), self);
      const Outcome whole = outcome_of(one, p.steps);
      for (int i = 0; i < p.steps; ++i) {
        const auto k = static_cast<size_t>(i);
        EXPECT_NEAR(sharded.steps[k].loss, whole.steps[k].loss, p.tolerance * whole.steps[k].loss)
            << name_of(p.dtype) << " block " << block << " step " << i;
      }
      EXPECT_NE(whole.steps.back().loss, whole.steps.front().loss);
    }
  }
}

// Gradient and curvature cost a scatter each; a step between measurements costs what AdamW's does.
TEST_P(CurvatureStages, PlannedTrafficIsWhatMpiSends) {
  const Case& c = GetParam();
  for (int64_t stage : {0, 1, 2, 3}) {
    TinyRun run(dropping(DType::kF32), settings_of(stage, c.micro_steps, c.adahessian), world());
    for (int64_t step : {0, 1}) {
      const StepTotals& t = run.measures(step) ? run.plan().totals : run.plan().totals.between;
      reset_pmpi_counts();
      run.step(step);
      EXPECT_EQ(pmpi_counts().bytes,
                t.all_gather.wire_bytes + t.reduce_scatter.wire_bytes + t.all_reduce.wire_bytes)
          << "stage " << stage << " step " << step;
    }
  }
}

TEST(CurvatureStage, MovesAFourthParameterBufferAtStageThree) {
  const GptSpec spec = tiny_spec(DType::kF32);
  CompileSettings adamw = settings_of(3, 1, {});
  adamw.optimizer = AdamWSettings{};
  TinyRun first(spec, adamw, world());
  TinyRun second(spec, settings_of(3, 1, {}), world());
  int64_t padded = 0;
  for (const Unit& unit : first.plan().units) padded += unit.padded * 4;
  const auto payload = [](const TinyRun& run) {
    return run.plan().totals.all_gather.payload_bytes +
           run.plan().totals.reduce_scatter.payload_bytes;
  };
  EXPECT_EQ(payload(second) - payload(first), padded);
  int64_t first_state = 0, second_state = 0;
  for (const Slot& slot : first.plan().slots) {
    if (slot.kind == SlotKind::kMoment1 || slot.kind == SlotKind::kMoment2)
      first_state += slot.bytes;
  }
  for (const Slot& slot : second.plan().slots) {
    if (slot.kind == SlotKind::kMoment1 || slot.kind == SlotKind::kMoment2) {
      second_state += slot.bytes;
    }
  }
  EXPECT_EQ(first_state, second_state);
}

TEST_P(CurvatureStages, PlannedPeakIsWhatIsResident) {
  const Case& c = GetParam();
  for (int64_t stage : {0, 1, 2, 3}) {
    TinyRun run(dropping(DType::kF32), settings_of(stage, c.micro_steps, c.adahessian), world());
    std::vector<std::string> programs = {"init"};
    for (int64_t step : {0, 1}) {
      run.step(step);
      for (const ProgramRun& r :
           training_step(c.micro_steps, c.adahessian.probes, run.measures(step))) {
        programs.emplace_back(r.program);
      }
      EXPECT_EQ(run.executor().arena().resident_bytes(),
                written_page_bytes(run.plan(), programs, world().rank()))
          << "stage " << stage << " step " << step;
    }
  }
}

}  // namespace
}  // namespace memwall::test
