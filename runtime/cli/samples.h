// Repeated measurements of one thing.
#pragma once

#include <algorithm>
#include <vector>

namespace memwall {

struct Samples {
  std::vector<double> values;  // in the order in which they were taken

  void add(double value) { values.push_back(value); }
  double min() const { return *std::min_element(values.begin(), values.end()); }
  double mean() const {
    double sum = 0.0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }
  // The mean of the middle two, where their number is even.
  double median() const {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    const size_t half = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[half] : 0.5 * (sorted[half - 1] + sorted[half]);
  }
};

}  // namespace memwall
