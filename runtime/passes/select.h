// Choosing a target's kernels: puts one op in the place of several where that saves passes over
// memory. A fused kernel does what its parts do on the same values, so that results keep their bits
// (kernels/fused.h).
//
// It comes after eviction, which is told of single values, and works on what is left in each
// region: the same results are computed under all stages and policies, by fused kernels or by plain
// ones.
#pragma once

#include <array>
#include <string>

#include "runtime/graph/graph.h"

namespace memwall {

constexpr const char* kCpuTarget = "cpu";
constexpr const char* kPlainCpuTarget = "cpu_plain";  // one kernel an op: what tests compare with
// GPUs, by their compute capability: Ampere, Hopper, Blackwell.
constexpr std::array<const char*, 3> kGpuTargets = {"sm_80", "sm_90", "sm_100"};

// `fuses_attention`: whether attention may be one op too, equal to rounding (fuse_attention.h).
// Throws InputError for an unknown target.
Graph select(const Graph& graph, const std::string& target, bool fuses_attention = false);

}  // namespace memwall
