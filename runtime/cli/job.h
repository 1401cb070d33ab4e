// This process of a command: alone, or one rank of an MPI job.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "comm/mpi/session.h"
#include "runtime/base/error.h"
#include "runtime/config/config.h"
#include "runtime/train/metrics.h"

namespace memwall {

class Job {
 public:
  Job();  // starts MPI where mpirun or srun started this process, and only there

  int ranks() const { return session_ ? session_->size() : 1; }
  int ranks_on_host() const { return session_ ? session_->ranks_on_host() : 1; }
  int rank_on_host() const { return session_ ? session_->rank_on_host() : 0; }
  int rank() const { return session_ ? session_->rank() : 0; }
  const MpiSession* session() const { return session_ ? &*session_ : nullptr; }
  bool speaks() const { return rank() == 0; }  // prints what all ranks would print alike

  // Memory outside the arena, counted from MPI's start on.
  OutsideMemory& outside() { return outside_; }
  const OutsideMemory& outside() const { return outside_; }

  // Collective; once. What follows is known afterwards only. Rank 0 warns where a rank has more
  // threads than cores.
  void connect(double timeout_seconds, const Fabric& fabric = {});
  // As a configuration says.
  void connect(const config::Communication& settings);
  // As suits this job, which may be placed otherwise than the one that trained.
  void connect_for_inference(const config::Communication& settings);
  Communicator& comm() const { return *comm_; }
  // OMP_NUM_THREADS, else the cores that this process may use, divided among the ranks that may
  // use the same ones.
  int threads() const { return threads_; }
  int cores() const { return cores_; }
  bool pinned() const { return pinned_; }  // each thread to a core that no other rank's thread has

  // Reports the error that ends the command, and returns its exit code. An error that other ranks
  // do not know of ends the whole job instead.
  ExitCode fail(const std::exception& error) const;

 private:
  void place_threads();

  std::optional<MpiSession> session_;
  std::unique_ptr<Communicator> comm_;
  int cores_ = 0, threads_ = 0;
  bool pinned_ = false;
  OutsideMemory outside_;
};

// What the user reads of an error: at most five lines.
std::string error_text(const std::string& message);

// The rank that mpirun or srun gave this process, known before MPI is started; 0 alone.
int launched_rank();

}  // namespace memwall
