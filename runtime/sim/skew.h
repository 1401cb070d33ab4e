// How much the slowest of several equal ranks is behind their mean.
#pragma once

#include <cstdint>

namespace memwall {

// The expected maximum of N independent normal variables of mean 0 and standard deviation 1 (David
// and Nagaraja, "Order Statistics", 3rd edition, 2003, section 3.1):
//
//     E max = integral over x >= 0 of 1 - F(x)^N - F(-x)^N,    F: the normal distribution
//
// 0 for one rank, 0.564 for 2, 1.029 for 4, 1.424 for 8; it grows as sqrt(2 log N).
double expected_maximum(int64_t n);

}  // namespace memwall
