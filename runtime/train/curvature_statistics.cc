#include "runtime/train/curvature_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/base/error.h"

namespace memwall {

Estimate estimate_of(std::span<const double> samples) {
  check(!samples.empty(), "an estimate has samples");
  const auto count = static_cast<double>(samples.size());
  Estimate out;
  for (double x : samples) out.mean += x / count;
  double squares = 0.0;
  for (double x : samples) squares += (x - out.mean) * (x - out.mean);
  out.standard_error = samples.size() == 1 ? std::numeric_limits<double>::quiet_NaN()
                                           : std::sqrt(squares / (count - 1.0) / count);
  return out;
}

TraceStatistics trace_statistics(const std::vector<std::vector<double>>& probes) {
  check(!probes.empty(), "an estimate has probes");
  TraceStatistics out;
  std::vector<double> samples(probes.size());
  for (size_t tensor = 0; tensor < probes[0].size(); ++tensor) {
    for (size_t i = 0; i < probes.size(); ++i) samples[i] = probes[i].at(tensor);
    out.per_tensor.push_back(estimate_of(samples));
  }
  for (size_t i = 0; i < probes.size(); ++i) {
    samples[i] = 0.0;
    for (double part : probes[i]) samples[i] += part;
  }
  out.whole = estimate_of(samples);
  return out;
}

std::vector<std::string> tensor_names(std::span<const Unit> units) {
  std::vector<std::string> names;
  for (const Unit& unit : units) {
    for (const Segment& segment : unit.segments) names.push_back(segment.name);
  }
  return names;
}

std::vector<double> tensor_dots(std::span<const Unit> units, int64_t parts, int64_t part,
                                std::span<const double> a, std::span<const double> b) {
  check(a.size() == b.size(), "two vectors of the same units");
  std::vector<double> out;
  size_t start = 0;  // of the unit's part in a and b
  for (const Unit& unit : units) {
    const int64_t size = unit.shard(parts), first = part * size;
    check(start + static_cast<size_t>(size) <= a.size(), "a vector holds every unit", unit.name);
    for (const Segment& segment : unit.segments) {
      const int64_t begin = std::max(segment.offset, first);
      const int64_t end = std::min(segment.offset + segment.count, first + size);
      double sum = 0.0;
      for (int64_t e = begin; e < end; ++e) {
        const size_t at = start + static_cast<size_t>(e - first);
        sum += a[at] * b[at];
      }
      out.push_back(sum);
    }
    start += static_cast<size_t>(size);
  }
  check(start == a.size(), "a vector holds nothing but units");
  return out;
}

}  // namespace memwall
