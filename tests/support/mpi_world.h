// The ranks of a test that memwall_test(... RANKS ...) starts under mpirun; one rank otherwise.
#pragma once

#include "comm/communicator.h"
#include "comm/mpi/session.h"

namespace memwall::test {

Communicator& world();         // over MPI
Communicator& shared_world();  // over shared windows; collective at its first call
const MpiSession* session();   // null where MPI is not running

}  // namespace memwall::test
