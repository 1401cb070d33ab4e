// What `memwall simulate` reads from its options. InputError where they are something else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/cost/collective_cost.h"
#include "runtime/cost/machine.h"

namespace memwall {

// "8..64" is 8, 16, 32, 64; "8,24,64" those; ascending, each once, at most 2^20.
std::vector<int64_t> parse_rank_counts(const std::string& text);

// "flops=0.5,dram=2,link=4", in any order, each at most once; "" changes nothing.
WhatIf parse_what_if(const std::string& text);

// "ring" as a setting of the configuration: "communication.algorithm=RING".
std::string algorithm_setting(const std::string& text);

}  // namespace memwall
