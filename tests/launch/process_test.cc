// Children: what they say, how they end, and that none outlives its time.
#include "runtime/launch/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>

#include "tests/data/temporary_folder.h"

namespace memwall {
namespace {

Command bash(const std::string& script) {
  return {{"bash", "-c", script}, {}};
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool is_alive(const std::string& pid_file) {
  const int pid = std::atoi(contents_of(pid_file).c_str());
  EXPECT_GT(pid, 0);
  return ::kill(pid, 0) == 0;
}

class Process : public testing::Test {
 protected:
  const TemporaryFolder folder;
  ProcessGuard guard;
};

TEST_F(Process, SaysWhatItSays) {
  const Said said =
      run_and_read({{"bash", "-c", "echo $WORD; echo wrong >&2; exit 3"}, {"WORD=a b"}});
  EXPECT_EQ(said.text, "a b\nwrong\n");
  EXPECT_EQ(said.ended.exit_code, 3);
  EXPECT_FALSE(said.ended.ok());
}

TEST_F(Process, WritesALogAnewAndReadsNothing) {
  const std::string log = folder.write("log", "old and longer than what comes\n");
  EXPECT_TRUE(run(bash("cat; echo new"), log).ok());
  EXPECT_EQ(contents_of(log), "new\n");
  EXPECT_EQ(run(bash("kill -9 $$"), log).exit_code, 128 + 9);
}

TEST_F(Process, NamesAProgramThatIsNotThere) {
  expect_input_error(
      [] {
        run_and_read({{"no-such-program", "x"}, {}});
      },
      {"no-such-program", "No such file"});
  EXPECT_TRUE(is_in_path("bash"));
  EXPECT_FALSE(is_in_path("no-such-program"));
}

TEST_F(Process, EndsWithItsChildrenAtTheLimit) {
  const std::string pid = folder.at("pid");
  const auto start = std::chrono::steady_clock::now();
  // The inner one has a session of its own and ignores SIGTERM, as a rank may.
  const Ended ended = run(bash("setsid bash -c 'trap \"\" TERM; echo $$ >" + pid +
                               "; sleep 100 & wait; wait' & sleep 100"),
                          folder.at("log"), 0.5);
  EXPECT_TRUE(ended.timed_out);
  EXPECT_FALSE(ended.ok());
  EXPECT_LT(seconds_since(start), 5.0);
  EXPECT_FALSE(is_alive(pid));
}

TEST_F(Process, RunsSeveralUnderOneLimit) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Said> said =
      run_together_and_read({bash("sleep 100"), bash("echo here"), bash("sleep 100")}, 0.5);
  EXPECT_LT(seconds_since(start), 5.0);
  EXPECT_TRUE(said[0].ended.timed_out && said[2].ended.timed_out);
  EXPECT_TRUE(said[1].ended.ok());
  EXPECT_EQ(said[1].text, "here\n");
}

TEST_F(Process, ASignalEndsTheChild) {
  const std::string pid = folder.at("pid");
  const std::string script =
      "echo $$ >" + pid + "; kill -TERM " + std::to_string(::getpid()) + "; sleep 100";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(run(bash(script), folder.at("log")), Interrupted);
  EXPECT_LT(seconds_since(start), 5.0);
  EXPECT_FALSE(is_alive(pid));
  EXPECT_NO_THROW(guard.check_signals());  // it was taken
}

TEST_F(Process, ASignalBetweenChildrenIsSeen) {
  ::raise(SIGINT);
  EXPECT_THROW(guard.check_signals(), Interrupted);
  ::raise(SIGINT);
  EXPECT_TRUE(run_and_read(bash("sleep 0.1; echo done"), true).ended.ok());
  EXPECT_THROW(guard.check_signals(), Interrupted);  // it was held
}

TEST(LastLines, LeaveOutRules) {
  EXPECT_EQ(last_lines_of("one\n\n-----\ntwo\n---\nthree\n", 2),
            (std::vector<std::string>{"two", "three"}));
  EXPECT_EQ(last_lines_of("only", 3), std::vector<std::string>{"only"});
  EXPECT_TRUE(last_lines_of("", 3).empty());
}

}  // namespace
}  // namespace memwall
