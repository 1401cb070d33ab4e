// A dual call: its tangents against the derivatives written out, and against central differences of
// the plain kernel in FP64. op_case compares its values with the plain call's bits.
#pragma once

#include <functional>
#include <vector>

#include "tests/kernels/op_case.h"

namespace memwall::test {

// What a derivative is written in: the op's inputs, and the tangent of each (of integers: none).
using Tangents =
    std::function<std::vector<Values>(const std::vector<Values>& in, const std::vector<Values>& d)>;

// The dual case of a plain one. A tangent is not a number where its value is not.
OpCase dual_case(const OpCase& plain, const Tangents& tangents);

// (f(x + h x') - f(x - h x')) / 2h of the plain kernel, to 1e-7 of the largest tangent.
void expect_near_differences(const OpCase& dual);

// Both, of a case that adds to nothing.
void expect_dual_correct(const OpCase& plain, const Tangents& tangents);
// And of one whose first result may add.
void expect_dual_correct_and_adding(OpCase plain, const Tangents& tangents);

inline size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

// stride 0: rows follow one another.
RowsAttributes rows_attributes(int64_t batch, int64_t rows, int64_t width, int64_t stride = 0);

}  // namespace memwall::test
