// main() of tests over several ranks. With MEMWALL_TEST_RANKS=N the program starts itself again
// under mpirun -np N; each rank runs all cases. Rank 0 reports as GoogleTest does, the others only
// what failed. A rank that fails makes mpirun's exit status non-zero.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/make_communicator.h"
#include "tests/support/mpi_world.h"
#include "tests/support/mpirun.h"

namespace memwall::test {

namespace {

constexpr double kTimeoutSeconds = 60.0;  // a rank that failed may leave the others waiting

std::optional<MpiSession> the_session;
std::unique_ptr<Communicator> the_world, the_shared_world;

// Prefixes each failure with the rank it happened on.
class FailurePrinter final : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: failure\n%s\n", rank_,
                 result.file_name() != nullptr ? result.file_name() : "?", result.line_number(),
                 result.message());
  }
  int rank_;
};

bool lists_tests(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with("--gtest_list_tests")) return true;
  }
  return false;
}

// Returns only where mpirun cannot be started.
int launch(int ranks, int argc, char** argv) {
  set_mpirun_environment();
  std::vector<std::string> command = mpirun_command(ranks);
  command.emplace_back("/proc/self/exe");
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof(self));
  if (length > 0) command.back().assign(self, static_cast<size_t>(length));
  command.insert(command.end(), argv + 1, argv + argc);
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  std::perror("mpirun");
  return EXIT_FAILURE;
}

void listen_on_rank(int rank) {
  if (rank == 0) return;
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  delete listeners.Release(listeners.default_xml_generator());
  listeners.Append(new FailurePrinter(rank));
}

int run(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  if (launched_by_mpi()) the_session.emplace();
  the_world = make_communicator(the_session ? &*the_session : nullptr, kTimeoutSeconds);
  listen_on_rank(the_world->rank());
  const int result = RUN_ALL_TESTS();
  the_shared_world.reset();
  the_world.reset();
  the_session.reset();
  return result;
}

}  // namespace

Communicator& world() {
  return *the_world;
}
Communicator& shared_world() {
  if (the_shared_world == nullptr) {
    the_shared_world = make_communicator(the_session ? &*the_session : nullptr, kTimeoutSeconds,
                                         Fabric{Transport::kSharedMemory, the_world->size()});
  }
  return *the_shared_world;
}
const MpiSession* session() {
  return the_session ? &*the_session : nullptr;
}

}  // namespace memwall::test

int main(int argc, char** argv) {
  const char* ranks = std::getenv("MEMWALL_TEST_RANKS");
  if (ranks != nullptr && !memwall::launched_by_mpi() && !memwall::test::lists_tests(argc, argv)) {
    return memwall::test::launch(std::atoi(ranks), argc, argv);
  }
  return memwall::test::run(argc, argv);
}
