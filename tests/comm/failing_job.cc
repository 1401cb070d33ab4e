// A job of several ranks of which one fails, for failure_test: failing_job MODE VICTIM.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "comm/agree.h"
#include "comm/make_communicator.h"

namespace {

constexpr unsigned kForeverSeconds = 60;

void fail(const std::string& mode) {
  if (mode == "sleep") sleep(kForeverSeconds);
  if (mode == "exit") _exit(7);
  if (mode == "kill") raise(SIGKILL);
  if (mode == "abort") memwall::abort_all("the victim gives up", memwall::ExitCode::kOverBudget);
  if (mode == "throw") throw memwall::BudgetError("does not fit");
}

void all_reduce(memwall::Communicator& comm) {
  double value = comm.rank();
  std::string receive(static_cast<size_t>(memwall::all_reduce_receive_bytes(comm.size(), 1)), '\0');
  comm.wait(comm.all_reduce(&value, 1, receive.data()));
}

// Three steps; the victim fails before its second.
int run(const std::string& mode, int victim) {
  const double timeout_seconds = mode == "sleep" ? 1.0 : 0.0;
  memwall::MpiSession session;
  const auto comm = memwall::make_communicator(&session, timeout_seconds);
  try {
    comm->set_activity("step_0/loss");
    all_reduce(*comm);
    comm->set_activity("step_1/loss");
    if (mode == "all-abort") memwall::abort_all("all give up", memwall::ExitCode::kOverBudget);
    if (mode == "throw") {
      run_together(*comm, [&] {
        if (comm->rank() == victim) fail(mode);
      });
    } else if (comm->rank() == victim) {
      fail(mode);
    }
    all_reduce(*comm);
  } catch (const memwall::Error& error) {
    if (print_here(*comm)) fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
  return EXIT_SUCCESS;
}

}  // namespace

int main(int, char** argv) {
  return run(argv[1], atoi(argv[2]));
}
