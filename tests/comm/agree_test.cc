// Errors that all ranks share. Every rank must throw, and throw the same.
#include "comm/agree.h"

#include <gtest/gtest.h>

#include "comm/host.h"
#include "tests/support/mpi_world.h"

namespace memwall::test {
namespace {

using Items = std::vector<std::pair<std::string, std::string>>;

bool is_last(const Communicator& comm) {
  return comm.rank() == comm.size() - 1;
}

// The message that `body` throws as a T, checked to be the same on all ranks; "" without one.
template <class T, class Body>
std::string shared_message(Body body, ExitCode code) {
  std::string message;
  try {
    body();
  } catch (const T& error) {
    message = error.what();
    EXPECT_EQ(error.code(), code);
  }
  for (const std::string& theirs : world().gather_text(message)) EXPECT_EQ(theirs, message);
  return message;
}

TEST(Agreement, EqualItemsPass) {
  EXPECT_NO_THROW(check_agreement(world(), {{"configuration", "abc"}, {"plan", "12:3"}}));
  EXPECT_NO_THROW(check_agreement(world(), {}));
}

TEST(Agreement, ADifferenceNamesItemRanksHostsAndValues) {
  if (world().size() == 1) GTEST_SKIP() << "for several ranks";
  const Items items = {{"configuration", "abc"}, {"plan", is_last(world()) ? "5 6" : "7:8"}};
  const std::string message =
      shared_message<SharedError>([&] { check_agreement(world(), items); }, ExitCode::kBadInput);
  const std::string last = std::to_string(world().size() - 1);
  EXPECT_NE(message.find("disagree about the plan: rank " + last + " on " + host_name() +
                         " has '5 6', rank 0 on " + host_name() + " has '7:8'"),
            std::string::npos)
      << message;
}

TEST(Agreement, AnItemThatARankLacksIsADifference) {
  if (world().size() == 1) GTEST_SKIP() << "for several ranks";
  for (const bool last_has_more : {false, true}) {
    Items items = {{"version", "1"}};
    if (is_last(world()) == last_has_more) items.emplace_back("cpu features", "avx2");
    const std::string message =
        shared_message<SharedError>([&] { check_agreement(world(), items); }, ExitCode::kBadInput);
    EXPECT_NE(message.find("cpu features"), std::string::npos) << message;
    EXPECT_NE(message.find("has nothing"), std::string::npos) << message;
  }
}

TEST(ThrowTogether, PassesWithoutErrors) {
  EXPECT_NO_THROW(throw_together(world(), nullptr));
}

TEST(ThrowTogether, TheLowestFailingRankIsHeardEverywhere) {
  if (world().size() == 1) GTEST_SKIP() << "for several ranks";
  const std::string message = shared_message<Error>(
      [] {
        run_together(world(), [] {
          if (world().rank() == 0) return;
          throw BudgetError("no room on rank " + std::to_string(world().rank()));
        });
      },
      ExitCode::kOverBudget);
  EXPECT_EQ(message, "rank 1 on " + host_name() + ": no room on rank 1");
}

// Rank 0 only waited for the others.
TEST(ThrowTogether, TheCauseIsHeardBeforeWhoWaitedInVain) {
  if (world().size() == 1) GTEST_SKIP() << "for several ranks";
  const std::string message = shared_message<Error>(
      [] {
        run_together(world(), [] {
          if (is_last(world())) throw Error("no such interface");
          throw NoAnswer("not done after 2 s");
        });
      },
      ExitCode::kFailed);
  EXPECT_EQ(message, "rank " + std::to_string(world().size() - 1) + " on " + host_name() +
                         ": no such interface");
  const std::string alike = shared_message<Error>(
      [] { run_together(world(), [] { throw NoAnswer("not done after 2 s"); }); },
      ExitCode::kFailed);
  EXPECT_EQ(alike, "not done after 2 s");
}

TEST(ThrowTogether, AnErrorOfAllRanksIsSaidAsItIs) {
  const std::string message = shared_message<Error>(
      [] { run_together(world(), [] { throw InputError("bad field", "run.textproto:3"); }); },
      ExitCode::kBadInput);
  EXPECT_EQ(message, "run.textproto:3: bad field");
}

TEST(ThrowTogether, ForeignExceptionsBecomeFailures) {
  const std::string message = shared_message<Error>(
      [] { run_together(world(), [] { throw std::runtime_error("disk on fire"); }); },
      ExitCode::kFailed);
  EXPECT_EQ(message, "disk on fire");
}

TEST(PrintHere, OneRankPrints) {
  const std::vector<double> printing = world().gather_all({print_here(world()) ? 1.0 : 0.0});
  double sum = 0.0;
  for (const double one : printing) sum += one;
  EXPECT_EQ(sum, 1.0);
}

}  // namespace
}  // namespace memwall::test
