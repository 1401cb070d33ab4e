#include "comm/mpi/session.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>

#include "comm/host.h"

namespace memwall {

namespace {

// A rank of higher number waits this much longer before it speaks, so that the first one's abort
// reaches it in silence.
constexpr std::chrono::milliseconds kAbortStagger{100};
constexpr int kMaxStaggeredRanks = 20;
constexpr unsigned kAbortSeconds = 5;  // MPI_Abort must be done by then

// Over TCP, Open MPI hands a message's whole rest to the socket as one piece ("put"), and what lets
// the other side's message begin waits behind it: two ranks that send to each other take turns.
// Pieces of 128 KiB ("send") pass side by side: 2 MiB both ways at 1 Gbit/s take 17 ms in place
// of 34. Where the user has set it (mpirun --mca btl_tcp_flags, or the environment), that stays; a
// file of MCA parameters does not count.
void let_tcp_go_both_ways() {
  ::setenv("OMPI_MCA_btl_tcp_flags", "send,inplace", 0);
}

bool mpi_is_running() {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

}  // namespace

// A process of an sbatch script has SLURM's variables too, but no step of several tasks.
bool launched_by_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  return tasks != nullptr && std::atoi(tasks) > 1;
}

MpiSession::MpiSession() : host_(host_name()), exceptions_at_start_(std::uncaught_exceptions()) {
  let_tcp_go_both_ways();
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  if (provided < MPI_THREAD_SERIALIZED) {
    throw Error("this MPI does not support MPI_THREAD_SERIALIZED", where());
  }
  find_neighbours();
}

void MpiSession::find_neighbours() {
  MPI_Comm host_comm = MPI_COMM_NULL;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host_comm),
        "MPI_Comm_split_type");
  check(MPI_Comm_size(host_comm, &ranks_on_host_), "MPI_Comm_size");
  check(MPI_Comm_rank(host_comm, &rank_on_host_), "MPI_Comm_rank");
  check(MPI_Comm_free(&host_comm), "MPI_Comm_free");
  // Even where every rank finds itself in the block of its host.
  const int even = rank_ % ranks_on_host_ == rank_on_host_ ? ranks_on_host_ : 0;
  int least = 0, most = 0;
  check(MPI_Allreduce(&even, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "MPI_Allreduce");
  check(MPI_Allreduce(&even, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD), "MPI_Allreduce");
  ranks_a_node_ = least == most && least > 0 ? least : 1;
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > exceptions_at_start_) return;
  if (mpi_is_running()) MPI_Finalize();
}

std::string MpiSession::where() const {
  return "rank " + std::to_string(rank_) + " on " + host_;
}

void MpiSession::check(int status, const char* call) const {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Error(std::string(call) + " failed: " + text, where());
}

void abort_all(const std::string& message, ExitCode code) {
  const bool mpi = mpi_is_running();
  if (mpi) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::this_thread::sleep_for(kAbortStagger * std::min(rank, kMaxStaggeredRanks));
  }
  const std::string line = message + '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  if (mpi) {
    ::alarm(kAbortSeconds);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  }
  std::_Exit(static_cast<int>(code));
}

}  // namespace memwall
