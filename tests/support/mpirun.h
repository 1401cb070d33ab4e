// How tests start MPI jobs on one machine of few cores.
#pragma once

#include <stdlib.h>

#include <string>
#include <vector>

namespace memwall::test {

inline std::vector<std::string> mpirun_command(int ranks) {
  return {"mpirun", "--oversubscribe",    "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1",
          "-np",    std::to_string(ranks)};
}

// For mpirun and the ranks it starts. Leaks inside Open MPI are not ours.
inline void set_mpirun_environment() {
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  setenv("OMP_NUM_THREADS", "1", 1);
  setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
}

}  // namespace memwall::test
