// A picture of a loss's curvature: the Hessian's trace by tensor, and the ends of its spectrum.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/train/curvature_statistics.h"

namespace memwall {

struct Eigenvalue {
  double value = 0.0;
  double residual = 0.0;       // an eigenvalue lies within this of `value`
  bool converged = false;      // the residual is within the tolerance
  std::vector<double> shares;  // of the squared eigenvector in each tensor; they sum to 1
};

struct HessianReport {
  std::string title;                 // the run and its step
  std::string subtitle;              // what was measured: data, precision
  std::vector<std::string> tensors;  // names, in the model's order
  int64_t probes = 0;                // random vectors behind the trace
  TraceStatistics trace;             // per_tensor in the order of `tensors`
  std::vector<Eigenvalue> largest;   // outermost first
  std::vector<Eigenvalue> smallest;
};

// A whole SVG 1.1 file, for light and dark screens: one row a tensor with its standard error, one
// an eigenvalue with the tensors that its eigenvector lies in.
std::string hessian_svg(const HessianReport& report);

}  // namespace memwall
