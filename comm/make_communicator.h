// Which communicator a job gets.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/mpi/session.h"

namespace memwall {

// Over MPI where `session` (null: none) has several ranks, else of this process alone. Collective.
// A wait in which nothing moves for `timeout_seconds` (0: no limit) ends the job. `session` must
// outlive the communicator.
std::unique_ptr<Communicator> make_communicator(MpiSession* session, double timeout_seconds);

}  // namespace memwall
