// OpenBLAS brings kernels for many processors and chooses by the model number. One that it does not
// know gets kernels of 2004 and a fifth of its speed, without a word.
#pragma once

#include <string>
#include <string_view>

namespace memwall::cpu {

// `core`: the processor that OpenBLAS works for, as openblas_get_corename() names it. What the
// processor at hand could do beyond that and what to set, one sentence; "" where the kernels are
// its own, or of a name that is newer than this code.
std::string old_core_warning(std::string_view core, bool has_avx2, bool has_avx512);

}  // namespace memwall::cpu
