// ZeRO stages agree bitwise; N ranks agree with one; timing of transfers and freed memory do not
// matter; what is planned is what is moved and touched.
#include <gtest/gtest.h>

#include "comm/agree.h"
#include "comm/self/self_communicator.h"
#include "runtime/base/hash.h"
#include "tests/support/delayed.h"
#include "tests/support/mpi_world.h"
#include "tests/support/pmpi_shim.h"
#include "tests/support/poison.h"
#include "tests/support/tiny_run.h"
#include "tests/support/window_shim.h"

namespace memwall::test {
namespace {

CompileSettings settings_of(int64_t stage, int64_t micro_steps, int64_t depth) {
  CompileSettings s;
  s.zero_stage = stage;
  s.micro_steps = micro_steps;
  s.prefetch_depth = depth;
  s.grad_clip = 0.5;
  s.evaluate = false;
  return s;
}

int64_t activations(const Plan& plan) {
  return plan.program("last_micro").maximum[static_cast<size_t>(Category::kActivations)];
}

int64_t communication(const Plan& plan) {
  return plan.totals.maximum[static_cast<size_t>(Category::kCommunication)];
}

TEST(Stages, AgreeBitwise) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    for (int64_t micro_steps : {1, 3}) {
      std::vector<Outcome> outcomes;
      for (int64_t stage : {0, 1, 2, 3}) {
        TinyRun run(dropping(dtype), settings_of(stage, micro_steps, 0), world());
        outcomes.push_back(outcome_of(run, 4));
      }
      EXPECT_EQ(outcomes[0], outcomes[1]);
      EXPECT_EQ(outcomes[2], outcomes[3]);
      if (micro_steps == 1) {
        EXPECT_EQ(outcomes[1], outcomes[2]);
      }
      for (const TinyRun::Step& step : outcomes[0].steps) EXPECT_TRUE(std::isfinite(step.loss));
      EXPECT_NE(outcomes[0].steps[0].loss, outcomes[0].steps[3].loss);
    }
  }
}

// Prefetch, transfers as early and as late as the waits allow, and freed memory overwritten.
class StagesIn : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, StagesIn, testing::Values(DType::kF32, DType::kF16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST_P(StagesIn, DoNotDependOnTiming) {
  for (int64_t stage : {0, 1, 2, 3}) {
    for (int64_t micro_steps : {1, 2}) {
      TinyRun plain(dropping(GetParam()), settings_of(stage, micro_steps, 0), world());
      const Outcome expected = outcome_of(plain, 3);
      for (int64_t depth : {0, 1, 2}) {
        for (bool late : {false, true}) {
          EagerCommunicator eager(world());
          LateCommunicator delayed(world());
          Communicator& comm = late ? static_cast<Communicator&>(delayed) : eager;
          TinyRun run(dropping(GetParam()), settings_of(stage, micro_steps, depth), comm);
          PoisoningObserver poison(run.executor());
          run.executor().set_observer(&poison);
          EXPECT_EQ(outcome_of(run, 3), expected) << "stage " << stage << " micro " << micro_steps
                                                  << " depth " << depth << " late " << late;
          EXPECT_GT(poison.poisoned_bytes(), 0);
        }
      }
    }
  }
}

class Recomputed : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, Recomputed, testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST_P(Recomputed, HasTheBitsItHad) {
  for (int64_t stage : {0, 3}) {
    for (int64_t micro_steps : {1, 2}) {
      TinyRun plain(dropping(GetParam()), settings_of(stage, micro_steps, 0), world());
      const Outcome expected = outcome_of(plain, 3);
      for (const CheckpointPolicy& policy :
           {CheckpointPolicy{Checkpointing::kBlock, {}},
            CheckpointPolicy{Checkpointing::kSelective, {"*/attn/attention", "*/attn/residual"}}}) {
        CompileSettings settings = settings_of(stage, micro_steps, 0);
        settings.checkpointing = policy;
        TinyRun run(dropping(GetParam()), settings, world());
        PoisoningObserver poison(run.executor());
        run.executor().set_observer(&poison);
        EXPECT_EQ(outcome_of(run, 3), expected) << "stage " << stage << " micro " << micro_steps;
        EXPECT_GT(run.plan().totals.recomputed_flops, plain.plan().totals.recomputed_flops);
        EXPECT_LT(activations(run.plan()), activations(plain.plan()));
      }
    }
  }
}

TEST(Stages, ManyRanksAgreeWithOne) {
  const int64_t ranks = world().size();
  struct Case {
    DType dtype;
    int steps;
    double tolerance;
  };
  for (const Case& c : {Case{DType::kF64, 50, 1e-9}, Case{DType::kF32, 10, 1e-5},
                        Case{DType::kF16, 10, 2e-5}, Case{DType::kBF16, 10, 2e-4}}) {
    GptSpec spec = dropping(c.dtype);
    TinyRun many(spec, settings_of(3, 1, 0), world());
    const Outcome sharded = outcome_of(many, c.steps, 1e-3);
    spec.batch *= ranks;
    SelfCommunicator self;
    TinyRun one(spec, settings_of(0, 1, 0), self);
    const Outcome whole = outcome_of(one, c.steps, 1e-3);
    for (int i = 0; i < c.steps; ++i) {
      const auto k = static_cast<size_t>(i);
      EXPECT_NEAR(sharded.steps[k].loss, whole.steps[k].loss, c.tolerance * whole.steps[k].loss);
    }
  }
}

TEST(Stages, AgreeBitwiseWithSgd) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (double momentum : {0.0, 0.9}) {
      std::vector<Outcome> outcomes;
      for (int64_t stage : {0, 1, 2, 3}) {
        CompileSettings settings = settings_of(stage, 1, 0);
        settings.optimizer = SgdSettings{.momentum = momentum, .weight_decay = 0.1};
        TinyRun run(dropping(dtype), settings, world());
        outcomes.push_back(outcome_of(run, 4, 0.1));
        EXPECT_EQ(outcomes.back(), outcomes.front()) << "stage " << stage;
        const int64_t kept = momentum > 0.0 ? 1 : 0;
        int64_t moments = 0;
        for (const Slot& slot : run.plan().slots) {
          moments += slot.kind == SlotKind::kMoment1 || slot.kind == SlotKind::kMoment2;
        }
        EXPECT_EQ(moments, kept * static_cast<int64_t>(run.plan().units.size()));
      }
      EXPECT_NE(outcomes[0].steps[0].loss, outcomes[0].steps[3].loss);
    }
  }
}

// Through shared windows the sums are the same, whatever is in flight and when.
TEST_P(StagesIn, DoNotDependOnTheTransport) {
  for (int64_t stage : {0, 1, 2, 3}) {
    for (int64_t micro_steps : {1, 2}) {
      TinyRun messages(dropping(GetParam()), settings_of(stage, micro_steps, 0), world());
      const Outcome expected = outcome_of(messages, 3);
      for (int64_t depth : {0, 2}) {
        LateCommunicator delayed(shared_world());
        Communicator& comm = depth == 0 ? shared_world() : delayed;
        TinyRun run(dropping(GetParam()), settings_of(stage, micro_steps, depth), comm);
        PoisoningObserver poison(run.executor());
        run.executor().set_observer(&poison);
        EXPECT_EQ(outcome_of(run, 3), expected) << "stage " << stage << " depth " << depth;
        if (depth > 0) continue;
        EXPECT_LT(communication(run.plan()), communication(messages.plan())) << "nothing received";
      }
    }
  }
}

// Half the bytes, nearly the same losses, and not the same numbers.
TEST(Stages, SixteenBitsFollowFp32) {
  TinyRun single(dropping(DType::kF32), settings_of(3, 1, 0), world());
  const Outcome expected = outcome_of(single, 30, 1e-3);
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    TinyRun narrow(dropping(dtype), settings_of(3, 1, 0), world());
    const Outcome found = outcome_of(narrow, 30, 1e-3);
    for (size_t i = 0; i < found.steps.size(); ++i) {
      EXPECT_NEAR(found.steps[i].loss, expected.steps[i].loss, 2e-3) << name_of(dtype) << " " << i;
    }
    EXPECT_NE(found.steps, expected.steps);
    EXPECT_LE(activations(narrow.plan()), 0.55 * static_cast<double>(activations(single.plan())));
  }
}

void expect_planned_traffic(DType dtype, int64_t stage, int64_t micro_steps) {
  TinyRun run(dropping(dtype), settings_of(stage, micro_steps, 0), world());
  const Ledger before = world().ledger();
  reset_pmpi_counts();
  run.step(0);
  const PmpiCounts counts = pmpi_counts();
  const Ledger after = world().ledger();
  const Totals& t = run.plan().totals;
  EXPECT_EQ(counts.bytes,
            t.all_gather.wire_bytes + t.reduce_scatter.wire_bytes + t.all_reduce.wire_bytes)
      << name_of(dtype) << " stage " << stage;
  EXPECT_EQ(counts.other_calls, 0);
  const auto compare = [&](Collective kind, const PlannedTraffic& planned) {
    EXPECT_EQ(after[kind].calls - before[kind].calls, planned.calls);
    EXPECT_EQ(after[kind].payload_bytes - before[kind].payload_bytes, planned.payload_bytes);
    EXPECT_EQ(after[kind].wire_bytes - before[kind].wire_bytes, planned.wire_bytes);
  };
  compare(Collective::kAllGather, t.all_gather);
  compare(Collective::kReduceScatter, t.reduce_scatter);
  compare(Collective::kAllReduce, t.all_reduce);
}

TEST(Stages, PlannedTrafficIsWhatMpiSends) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (int64_t stage : {0, 1, 2, 3}) {
      for (int64_t micro_steps : {1, 3}) expect_planned_traffic(dtype, stage, micro_steps);
    }
  }
}

TEST(Stages, PlannedTrafficIsWhatPassesTheWindows) {
  for (int64_t stage : {0, 3}) {
    for (int64_t micro_steps : {1, 3}) {
      TinyRun run(dropping(DType::kF32), settings_of(stage, micro_steps, 0), shared_world());
      reset_window_counts();
      reset_pmpi_counts();
      run.step(0);
      const Totals& t = run.plan().totals;
      const int64_t planned =
          t.all_gather.wire_bytes + t.reduce_scatter.wire_bytes + t.all_reduce.wire_bytes;
      const WindowCounts counts = window_counts();
      EXPECT_EQ(counts.sent_bytes, planned) << "stage " << stage;
      int64_t received = 0;
      for (int64_t bytes : counts.read_bytes) received += bytes;
      EXPECT_EQ(received, planned) << "as much as was sent: shares are equal";
      EXPECT_EQ(pmpi_counts().bytes, 0);
    }
  }
}

TEST(Stages, APlanForAnotherTransportIsNotRun) {
  const TinyRun run(dropping(DType::kF32), settings_of(3, 1, 0), world());
  EXPECT_THROW(Executor(run.plan(), shared_world(), 1), InternalError);
}

// A rank with another plan, here two collectives swapped, is found before anything runs.
TEST(Stages, ASwappedPlanIsFoundAtStartUp) {
  TinyRun run(dropping(DType::kF32), settings_of(3, 1, 0), world());
  Plan plan = run.plan();
  EXPECT_NO_THROW(check_agreement(world(), {{"plan", hash_hex(plan_hash(plan))}}));
  if (world().rank() == 1) {
    std::vector<Step*> scatters;
    for (Program& program : plan.programs) {
      for (Step& step : program.steps) {
        if (step.op == Op::kReduceScatter) scatters.push_back(&step);
      }
    }
    ASSERT_GE(scatters.size(), 2u);
    std::swap(*scatters[0], *scatters[1]);
  }
  try {
    check_agreement(world(), {{"plan", hash_hex(plan_hash(plan))}});
    FAIL() << "a swapped plan was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
    EXPECT_NE(std::string(error.what()).find("plan"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("rank 1"), std::string::npos) << error.what();
  }
}

void expect_planned_peak(DType dtype, int64_t stage, int64_t micro_steps) {
  TinyRun run(dropping(dtype), settings_of(stage, micro_steps, 1), world());
  const int64_t rank = world().rank();
  EXPECT_EQ(run.executor().arena().resident_bytes(),
            written_page_bytes(run.plan(), {"init"}, rank));
  run.step(0);
  std::vector<std::string> programs = {"init", "last_micro", "update"};
  if (micro_steps > 1) programs.push_back("micro");
  EXPECT_EQ(run.executor().arena().resident_bytes(), written_page_bytes(run.plan(), programs, rank))
      << name_of(dtype) << " stage " << stage;
}

TEST(Stages, PlannedPeakIsWhatIsResident) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (int64_t stage : {0, 1, 2, 3}) {
      for (int64_t micro_steps : {1, 3}) expect_planned_peak(dtype, stage, micro_steps);
    }
  }
}

}  // namespace
}  // namespace memwall::test
