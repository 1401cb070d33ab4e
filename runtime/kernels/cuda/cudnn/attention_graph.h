// A call of attention as a graph of cuDNN's C++ front end. Where this is included, NVIDIA's headers
// are.
#pragma once

#include <cstdint>

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include "runtime/base/dtype.h"
#include "runtime/base/op.h"

namespace memwall::cuda {

// Operands of the graph.
enum AttentionUid : int64_t { kQ = 1, kK, kV, kY, kStatistics, kDy, kDq, kDk, kDv };

// What a call is made for.
struct AttentionKey {
  bool backward;
  DType dtype;
  int64_t samples, time, heads, size;  // of a call
  int64_t row_elements;                // from one query to the next
  double scale;
  auto operator<=>(const AttentionKey&) const = default;
};
AttentionKey key_of(const AttentionAttributes& a, DType dtype, bool backward);

inline constexpr int64_t kAttentionWorkspaceAlignment = 256;

// Adds the call to an empty graph.
void describe(cudnn_frontend::graph::Graph& graph, const AttentionKey& key);

// What cuDNN may have of a planned workspace. Throws an Error where the compiled graph wants more.
void check_workspace(const cudnn_frontend::graph::Graph& graph, int64_t planned_bytes);

// Throws an Error with cuDNN's text.
void check_cudnn(cudnn_frontend::error_t error, const char* call);

}  // namespace memwall::cuda
