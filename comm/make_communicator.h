// Which communicator a job gets.
#pragma once

#include <memory>
#include <optional>

#include "comm/communicator.h"
#include "comm/mpi/session.h"

namespace memwall {

// Every rank maps the windows of all. Beyond this many ranks the choice is MPI, unless shared
// memory is asked for.
constexpr int64_t kMostRanksSharing = 16;

// What a job of `ranks` ranks, of which `ranks_on_host` are on this host, uses: `asked`, or, where
// nothing was (AUTO), shared memory for up to kMostRanksSharing ranks that are all on one host,
// else MPI. (One rank needs none; MPI stands for it.) Throws an InputError where shared memory is
// asked for and does not reach all ranks.
Transport choose_transport(std::optional<Transport> asked, int64_t ranks, int64_t ranks_on_host);

// Over `transport` where `session` (null: none) has several ranks, else of this process alone.
// Throws as choose_transport. Collective. A wait in which nothing moves for `timeout_seconds` (0:
// no limit) ends the job. `session` must outlive the communicator.
std::unique_ptr<Communicator> make_communicator(const MpiSession* session, double timeout_seconds,
                                                Transport transport = Transport::kMpi);

}  // namespace memwall
