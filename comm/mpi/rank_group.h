// Some ranks of a job, by consecutive numbers: all of them, or those of a host.
#pragma once

#include <mpi.h>

#include "comm/mpi/session.h"

namespace memwall {

struct RankGroup {
  const MpiSession* session = nullptr;
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0, size = 1;  // within the group
  int first = 0;           // the job's number of the group's rank 0
};

inline RankGroup all_ranks(const MpiSession& session) {
  return {&session, MPI_COMM_WORLD, session.rank(), session.size(), 0};
}

}  // namespace memwall
