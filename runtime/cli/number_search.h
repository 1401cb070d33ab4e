// The largest number whose plan fits, by few compilations: a plan's bytes grow nearly along a line.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "runtime/cli/candidate.h"

namespace memwall {

struct NumberSearch {
  std::function<Candidate(int64_t)> compile;
  // What a plan and all plans of larger numbers need at least. This is what makes the answer exact:
  // planned bytes themselves may fall where the number grows (chunks of other heights, gaps).
  std::function<int64_t(const Candidate&)> least_bytes;
  int64_t most = 1;  // numbers are from 1 to this
  int64_t budget_bytes = 0;
};

struct NumberSearchResult {
  std::optional<Candidate> largest;  // of all numbers, the largest whose planned bytes fit
  std::optional<Candidate> next;     // the one after it, which does not fit; empty after the last
};

NumberSearchResult find_largest(const NumberSearch& request);

}  // namespace memwall
