// The products that cuBLASLt has been asked for, ready to be started again.
#pragma once

#include <memory>

namespace memwall::cuda {

class GemmCache;
std::shared_ptr<GemmCache> make_gemm_cache();

}  // namespace memwall::cuda
