// The library of products, where it will be slow on a rank's processor.
#pragma once

#include "comm/communicator.h"

namespace memwall {

// Collective. Rank 0 prints the warning of the first rank that has one (gemm_library_warning),
// since the hosts of a job need not be alike.
void warn_of_slow_products(Communicator& comm);

}  // namespace memwall
