// Training over rings and on two levels: ZeRO stages agree bitwise within an algorithm, whatever is
// in flight and when; algorithms agree to rounding; what is planned is what is moved.
#include <gtest/gtest.h>

#include "comm/mpi/mpi_communicator.h"
#include "tests/support/mpi_world.h"
#include "tests/support/pmpi_shim.h"
#include "tests/support/poison.h"
#include "tests/support/tiny_run.h"
#include "tests/support/window_shim.h"

namespace memwall::test {
namespace {

struct Case {
  Algorithm algorithm;
  bool thread = false;
};

// Two levels want nodes of several ranks: two, where the ranks allow it, else all.
int ranks_a_node(Algorithm algorithm) {
  if (algorithm != Algorithm::kTwoLevel) return 1;
  return world().size() % 2 == 0 ? 2 : world().size();
}

MpiOptions options_of(const Case& c) {
  return {.timeout_seconds = 60,
          .progress_thread = c.thread,
          .ranks_a_node = ranks_a_node(c.algorithm)};
}

CompileSettings settings_of(const Case& c, int64_t stage, int64_t micro_steps, int64_t depth) {
  CompileSettings s;
  s.zero_stage = stage;
  s.micro_steps = micro_steps;
  s.prefetch_depth = depth;
  s.grad_clip = 0.5;
  s.evaluate = false;
  s.collectives.asked = c.algorithm;
  return s;
}

class Algorithms : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, Algorithms,
                         testing::Values(Case{Algorithm::kRing}, Case{Algorithm::kRing, true},
                                         Case{Algorithm::kTwoLevel},
                                         Case{Algorithm::kTwoLevel, true}),
                         [](const auto& instance) {
                           return std::string(name_of(instance.param.algorithm)) +
                                  (instance.param.thread ? "_thread" : "");
                         });

TEST_P(Algorithms, StagesAgreeBitwise) {
  MpiCommunicator comm(*session(), options_of(GetParam()));
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t micro_steps : {1, 3}) {
      std::vector<Outcome> outcomes;
      for (int64_t stage : {0, 1, 2, 3}) {
        TinyRun run(dropping(dtype), settings_of(GetParam(), stage, micro_steps, 0), comm);
        outcomes.push_back(outcome_of(run, 3));
        for (int64_t depth : {1, 2}) {
          TinyRun ahead(dropping(dtype), settings_of(GetParam(), stage, micro_steps, depth), comm);
          PoisoningObserver poison(ahead.executor());
          ahead.executor().set_observer(&poison);
          EXPECT_EQ(outcome_of(ahead, 3), outcomes.back()) << "stage " << stage << " " << depth;
        }
      }
      EXPECT_EQ(outcomes[0], outcomes[1]);
      EXPECT_EQ(outcomes[2], outcomes[3]);
      if (micro_steps == 1) {
        EXPECT_EQ(outcomes[1], outcomes[2]);
      }
      for (const TinyRun::Step& step : outcomes[0].steps) EXPECT_TRUE(std::isfinite(step.loss));
    }
  }
}

// The same sums in another order. In FP64, so that a wrong term would show.
TEST_P(Algorithms, AgreeWithPairwiseToRounding) {
  MpiCommunicator comm(*session(), options_of(GetParam()));
  TinyRun direct(dropping(DType::kF64), settings_of({Algorithm::kPairwise}, 3, 1, 0), comm);
  TinyRun run(dropping(DType::kF64), settings_of(GetParam(), 3, 1, 0), comm);
  const Outcome a = outcome_of(direct, 20, 1e-3), b = outcome_of(run, 20, 1e-3);
  for (size_t i = 0; i < a.steps.size(); ++i) {
    EXPECT_NEAR(a.steps[i].loss, b.steps[i].loss, 1e-11) << i;
  }
}

TEST_P(Algorithms, PlannedTrafficIsWhatIsSent) {
  MpiCommunicator comm(*session(), options_of(GetParam()));
  for (int64_t stage : {0, 3}) {
    TinyRun run(dropping(DType::kF32), settings_of(GetParam(), stage, 1, 1), comm);
    comm.barrier();
    const Ledger before = comm.ledger();
    reset_pmpi_counts();
    reset_window_counts();
    run.step(0);
    const Totals& t = run.plan().totals;
    EXPECT_EQ(pmpi_counts().bytes + window_counts().sent_bytes,
              t.all_gather.wire_bytes + t.reduce_scatter.wire_bytes + t.all_reduce.wire_bytes);
    EXPECT_EQ(pmpi_counts().other_calls, 0);
    EXPECT_EQ(comm.ledger()[Collective::kAllGather].wire_bytes -
                  before[Collective::kAllGather].wire_bytes,
              t.all_gather.wire_bytes);
    EXPECT_EQ(comm.ledger()[Collective::kReduceScatter].wire_bytes -
                  before[Collective::kReduceScatter].wire_bytes,
              t.reduce_scatter.wire_bytes);
    if (GetParam().algorithm != Algorithm::kTwoLevel) continue;
    // Over messages go a node's share of gathers and scatters alone, and the scalars.
    const int64_t nodes = comm.size() / ranks_a_node(Algorithm::kTwoLevel);
    const int64_t shares =
        (t.all_gather.payload_bytes + t.reduce_scatter.payload_bytes) / comm.size();
    EXPECT_EQ(pmpi_counts().bytes, (nodes - 1) * shares + t.all_reduce.wire_bytes);
  }
}

// A dump says by which algorithm each collective goes.
TEST_P(Algorithms, ThePlanIsReadBackExactly) {
  MpiCommunicator comm(*session(), options_of(GetParam()));
  const TinyRun run(dropping(DType::kF32), settings_of(GetParam(), 3, 1, 1), comm);
  const std::string text = dump_plan(run.plan());
  const Plan again = parse_plan(text, "dump");
  EXPECT_EQ(dump_plan(again), text);
  EXPECT_EQ(again.fabric, run.plan().fabric);
  int64_t found = 0;
  for (const Step& step : again.program("last_micro").steps) {
    if (step.op != Op::kReduceScatter) continue;
    EXPECT_EQ(step.algorithm, GetParam().algorithm);
    ++found;
  }
  EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace memwall::test
