// A job of several ranks of which one fails, for failure_test: failing_job MODE VICTIM TRANSPORT.
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

// More than any window holds, so that the ranks wait for each other amid it.
memwall::Ticket gather(memwall::Communicator& comm, std::string& whole) {
  constexpr int64_t kShardBytes = int64_t{9} << 20;
  whole.resize(static_cast<size_t>(comm.size() * kShardBytes));
  return comm.all_gather(whole.data() + comm.rank() * kShardBytes, whole.data(), kShardBytes);
}

// Three steps; the victim fails before its second.
int run(const std::string& mode, int victim, memwall::Transport transport) {
  const double timeout_seconds = mode == "sleep" ? 1.0 : 0.0;
  memwall::MpiSession session;
  const auto comm = memwall::make_communicator(&session, timeout_seconds,
                                               memwall::Fabric{transport, session.size()});
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
    std::string whole;
    comm->set_activity("step_2/gather");
    const memwall::Ticket ticket = gather(*comm, whole);
    if (mode == "kill-amid" && comm->rank() == victim) raise(SIGKILL);
    comm->wait(ticket);
  } catch (const memwall::Error& error) {
    if (print_here(*comm)) fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
  return EXIT_SUCCESS;
}

}  // namespace

int main(int, char** argv) {
  const bool shared = std::string(argv[3]) == "shared";
  return run(argv[1], atoi(argv[2]),
             shared ? memwall::Transport::kSharedMemory : memwall::Transport::kMpi);
}
