// Sizes, durations and ranges as users write them.
#pragma once

#include <cstdint>
#include <string_view>

namespace memwall {

// "512MiB", "1.5 GB": a number and B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers
// of 1024). Rounded down to whole bytes; at least one. InputError where it is anything else.
int64_t parse_bytes(std::string_view text);

// "3h50m", "90s", "1d12h": whole numbers of d, h, m and s, larger units first, each at most once;
// more than zero. InputError where it is anything else.
double parse_duration_seconds(std::string_view text);

// "10-12" or "10": steps from 1, the first not above the last. InputError where it is anything
// else.
struct StepRange {
  int64_t first = 0, last = 0;
};
StepRange parse_step_range(std::string_view text);

}  // namespace memwall
