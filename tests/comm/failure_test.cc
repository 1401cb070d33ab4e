// Jobs that fail, seen from outside: they end soon, with the right exit code, and say once which
// step waited for which rank.
#include <gtest/gtest.h>

#include <string_view>

#include "tests/support/mpirun.h"
#include "tests/support/run_process.h"

namespace memwall::test {
namespace {

constexpr double kSoonSeconds = 10.0;

class Failure : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Transports, Failure, testing::Values("mpi", "shared"),
                         [](const auto& transport) { return std::string(transport.param); });

ProcessResult run_job(int ranks, const std::string& mode, int victim) {
  set_mpirun_environment();
  std::vector<std::string> command = mpirun_command(ranks);
  command.insert(command.end(),
                 {MEMWALL_FAILING_JOB, mode, std::to_string(victim), Failure::GetParam()});
  const ProcessResult result = run_process(command);
  EXPECT_LT(result.seconds, kSoonSeconds) << result.output;
  return result;
}

int occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

TEST_P(Failure, HealthyJobSaysNothing) {
  const ProcessResult result = run_job(3, "none", 0);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output, "");
}

TEST_P(Failure, TimeOutNamesStepAndRankOnce) {
  for (const int victim : {0, 2}) {
    const ProcessResult result = run_job(4, "sleep", victim);
    EXPECT_EQ(result.exit_code, 1) << result.output;
    const std::string rank = std::to_string(victim);
    EXPECT_EQ(occurrences(result.output, " s in 'step_1/loss' from rank(s) " + rank + "\n"), 1)
        << result.output;
    EXPECT_EQ(occurrences(result.output, "rank " + std::string(victim == 0 ? "1" : "0") + " on "),
              1)
        << result.output;
    EXPECT_EQ(occurrences(result.output, "no answer"), 1) << result.output;
  }
}

TEST_P(Failure, DeathOfARankNamesStepAndRankOnce) {
  for (const char* mode : {"exit", "kill"}) {
    for (const int victim : {0, 2}) {
      const ProcessResult result = run_job(4, mode, victim);
      EXPECT_NE(result.exit_code, 0) << result.output;
      EXPECT_EQ(
          occurrences(result.output, ": terminated while in 'step_1/loss', waiting for rank(s) " +
                                         std::to_string(victim) + "\n"),
          1)
          << result.output;
    }
  }
}

// Over MPI the survivors may then lack different ranks, so that none of them is sure to speak.
TEST_P(Failure, DeathAmidATransferEndsTheJob) {
  const ProcessResult result = run_job(4, "kill-amid", 1);
  EXPECT_NE(result.exit_code, 0) << result.output;
  if (std::string_view(GetParam()) != "shared") return;
  // Who else is behind when the signal comes depends on timing; the dead rank never answers.
  const std::string_view said = ": terminated while in 'step_2/gather', waiting for rank(s) ";
  EXPECT_NE(result.output.find(said), std::string::npos) << result.output;
}

TEST_P(Failure, AbortEndsAllRanksWithItsCode) {
  const ProcessResult result = run_job(3, "abort", 1);
  EXPECT_EQ(result.exit_code, 3) << result.output;
  EXPECT_EQ(occurrences(result.output, "the victim gives up"), 1) << result.output;
}

TEST_P(Failure, AbortOfAllRanksIsSaidOnce) {
  const ProcessResult result = run_job(3, "all-abort", 0);
  EXPECT_EQ(result.exit_code, 3) << result.output;
  EXPECT_EQ(occurrences(result.output, "all give up"), 1) << result.output;
}

TEST_P(Failure, SharedErrorIsSaidOnceWithItsCode) {
  const ProcessResult result = run_job(3, "throw", 2);
  EXPECT_EQ(result.exit_code, 3) << result.output;
  EXPECT_EQ(occurrences(result.output, "rank 2 on "), 1) << result.output;
  EXPECT_EQ(occurrences(result.output, "does not fit"), 1) << result.output;
}

}  // namespace
}  // namespace memwall::test
