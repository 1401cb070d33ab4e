// What this rank lays into its shared window and reads in the others', counted by wrapping the
// lowest level of windows when the test is linked: evidence that does not come from the ledger.
// Link the CMake target window_shim (tests/comm/tests.cmake) into the test.
#pragma once

#include <cstdint>
#include <vector>

namespace memwall::test {

struct WindowCounts {
  int64_t writes = 0, reads = 0;
  int64_t sent_bytes = 0;           // written, times the ranks that are to read them
  std::vector<int64_t> read_bytes;  // by the rank whose window it was; as long as needed
};

WindowCounts window_counts();  // since the start, or the last reset
void reset_window_counts();

}  // namespace memwall::test
