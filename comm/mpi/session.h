// This process as a rank of an MPI job. One thread at a time calls MPI: the one that made the
// session, or, under its communicator's lock, the one that moves transfers.
#pragma once

#include <string>

#include "runtime/base/error.h"

namespace memwall {

// Whether mpirun or srun started this process: only then need MPI be initialised.
bool launched_by_mpi();

// MPI_Init_thread(MPI_THREAD_SERIALIZED) ... MPI_Finalize; at most one in a process. MPI calls
// return their errors. A session destroyed by an exception on its way out leaves MPI unfinished, as
// the other ranks may never come to finalise it: mpirun then ends the job.
class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int ranks_on_host() const { return ranks_on_host_; }
  int rank_on_host() const { return rank_on_host_; }
  const std::string& host() const { return host_; }
  // Where all hosts have equally many ranks, and a host's follow each other: that many; else 1.
  int ranks_a_node() const { return ranks_a_node_; }

  // Throws an Error that names the call, its failure, the rank and the host, unless `status` is
  // MPI_SUCCESS.
  void check(int status, const char* call) const;
  std::string where() const;  // "rank 3 on node7"

 private:
  void find_neighbours();

  int rank_ = 0, size_ = 1, ranks_on_host_ = 1, rank_on_host_ = 0, ranks_a_node_ = 1;
  std::string host_;
  int exceptions_at_start_;
};

// Prints `message` and ends the whole job with `code`, for an error that the other ranks do not
// share. Where many ranks fail at once the lowest is heard. Never returns, also without MPI.
[[noreturn]] void abort_all(const std::string& message, ExitCode code);

}  // namespace memwall
