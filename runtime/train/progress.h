// What rank 0 says on the screen.
#pragma once

#include <cstdint>
#include <string>

namespace memwall {

struct ProgressLine {
  int64_t step = 0, steps = 0;
  double loss = 0.0, learning_rate = 0.0;
  double tokens_per_second = 0.0;  // all ranks, within steps since the last line
  double utilisation = 0.0;        // likewise; 1: the peak
  int64_t arena_bytes = 0;         // resident, of this rank
  double remaining_seconds = 0.0;
};

// "step   120/2000  loss 2.3451  lr 9.98e-04  45.2k tok/s  43.1% of peak  12.3 MiB  ETA 2:10"
std::string progress_text(const ProgressLine& line);

std::string duration_text(double seconds);  // "2:10", "1:02:10"

}  // namespace memwall
