// Memory of the imitated NCCL that ranks reach in each other.
#pragma once

#include "tests/imitated_gpu/nccl_communicator.h"

namespace memwall::imitated {

// Part::place of a call: of the result of an all-gather, of what a reduce-scatter reads, of an
// all-reduce's buffer (which here is one). The other side only its own rank touches: the part of an
// all-gather in place lies elsewhere on each rank.
uint64_t place_of(const Part& part, const ncclComm& communicator);

}  // namespace memwall::imitated
