// What samples of z . (H z) say of the Hessian's trace (Hutchinson 1990): the expectation over
// random signs z is the trace, of the part that belongs to a tensor that tensor's part of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/unit.h"

namespace memwall {

// The mean of samples, and how far it is from what infinitely many would give, as a standard
// deviation: that of the samples over the root of their number; NaN for a single one.
struct Estimate {
  double mean = 0.0;
  double standard_error = 0.0;
};
Estimate estimate_of(std::span<const double> samples);

struct TraceStatistics {
  Estimate whole;                    // of the sums over tensors
  std::vector<Estimate> per_tensor;  // in the tensors' order
};

// probes[i][t]: tensor t's part of z . (H z) of probe i. At least one probe.
TraceStatistics trace_statistics(const std::vector<std::vector<double>>& probes);

// The names of all tensors: units in order, segments in order.
std::vector<std::string> tensor_names(std::span<const Unit> units);

// For each tensor in that order: the sum of a * b over its elements in part `part` of `parts` equal
// parts of each unit. `a` and `b` hold that part of the first unit, then of the second, and so on;
// added over parts the sums are those of whole tensors. With z and H z: a probe's samples; with an
// eigenvector twice: its share in each tensor.
std::vector<double> tensor_dots(std::span<const Unit> units, int64_t parts, int64_t part,
                                std::span<const double> a, std::span<const double> b);

}  // namespace memwall
