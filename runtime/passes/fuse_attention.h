// Attention as one op: puts kAttention and kAttentionGrad in the place of the chunked nodes whose
// bodies compute causal attention without dropout, where the target's kernels take it.
//
// What backward reads is then the log-sum-exp of each row of scores, kept from the forward pass or
// from its recomputation, instead of scores that it computes again; it is equal to rounding.
// Graphs with tangents are left as they are: fused kernels have none.
#pragma once

#include "runtime/base/target.h"
#include "runtime/graph/graph.h"

namespace memwall {

// What is copied keeps its origin: select asks which values are computed again.
Graph fuse_attention(const Graph& graph, Backend backend);

}  // namespace memwall
