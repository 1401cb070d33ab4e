// The one place where values of different ranks are added.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/base/dtype.h"

namespace memwall {

// out[i] = round(((terms[0][i] + terms[1][i]) + terms[2][i]) + ...), for i in [0, count). Terms and
// `out` are arrays of `dtype` (f16, bf16, f32, f64); the sum is carried in FP32 (FP64 for f64) and
// rounded to nearest even once, at the end. `out` may be one of the terms.
void sum_in_order(std::span<const void* const> terms, void* out, int64_t count, DType dtype);

}  // namespace memwall
