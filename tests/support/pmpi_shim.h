// What this rank gives to MPI to send, counted at MPI's own profiling interface: evidence that does
// not come from the ledger. Link pmpi_shim.cc into the test.
#pragma once

#include <cstdint>

namespace memwall::test {

struct PmpiCounts {
  int64_t messages = 0;         // MPI_Isend
  int64_t bytes = 0;            // ... all of them
  int64_t largest_message = 0;  // bytes
  int64_t other_calls = 0;      // calls that move payload in any other way
};

PmpiCounts pmpi_counts();  // since the start, or the last reset
void reset_pmpi_counts();

}  // namespace memwall::test
