// Choosing a target's kernels: puts one op in the place of several where that saves passes over
// memory. A fused kernel does what its parts do on the same values, so that results keep their bits
// (kernels/fused.h).
//
// It comes after eviction, which is told of single values, and works on what is left in each
// region: the same results are computed under all stages and policies, by fused kernels or by plain
// ones.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "runtime/graph/graph.h"

namespace memwall {

constexpr const char* kCpuTarget = "cpu";
constexpr const char* kPlainCpuTarget = "cpu_plain";  // one kernel an op: what tests compare with
// GPUs, by their compute capability: Ampere, Hopper, Blackwell.
constexpr std::array<const char*, 3> kGpuTargets = {"sm_80", "sm_90", "sm_100"};

// What products do before they store (base/op.h, Epilogue), so that what follows them is not a pass
// over memory of its own.
struct ProductEpilogues {
  bool bias = false;  // kGemmBias
  bool gelu = false;  // kGemmBiasGelu, kGemmGeluGrad
};
// None on CPUs; bias on GPUs; GELU from sm_90 on, which llm.c notes down for its `gelu_fusion` (2
// for SM90+ and 0 before; its default is 0 everywhere). It was not measured here.
ProductEpilogues epilogues_of(const std::string& target);

struct SelectSettings {
  std::string target = kCpuTarget;
  bool fuses_attention = false;  // attention as one op too, equal to rounding (fuse_attention.h)
  std::optional<ProductEpilogues> epilogues = {};  // without: the target's
};

// Products' epilogues keep the bits on CPUs. On GPUs they are equal to rounding: the sum, the bias
// and GELU are rounded once together, and the sum before GELU is rounded for backward alone.
// Throws InputError for an unknown target.
Graph select(const Graph& graph, const SelectSettings& settings);

}  // namespace memwall
