// Which communicator a job gets.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/mpi/session.h"

namespace memwall {

enum class Transport : uint8_t {
  kAuto,          // shared memory where all ranks are on one host, else MPI
  kMpi,           // MPI's point-to-point messages
  kSharedMemory,  // windows that the ranks of one host share
};

// What `asked` comes to for a job of `ranks` ranks, of which `ranks_on_host` are on this host:
// never kAuto. Throws an InputError where shared memory does not reach all ranks.
Transport choose_transport(Transport asked, int ranks, int ranks_on_host);

// Over `transport` where `session` (null: none) has several ranks, else of this process alone.
// Collective. A wait in which nothing moves for `timeout_seconds` (0: no limit) ends the job.
// `session` must outlive the communicator.
std::unique_ptr<Communicator> make_communicator(const MpiSession* session, double timeout_seconds,
                                                Transport transport = Transport::kMpi);

}  // namespace memwall
