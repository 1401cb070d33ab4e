#include <algorithm>

#include "runtime/base/workspace.h"
#include "runtime/kernels/launchers/token_groups.h"

namespace memwall::launchers {

// Counting sort.
TokenGroups group_tokens(const KernelCall& call, int64_t tokens, int64_t table_rows) {
  check(static_cast<int64_t>(call.workspace.size()) >=
            embedding_grad_workspace_bytes(table_rows, tokens),
        "embedding_grad: the workspace is too small");
  const auto* const indices = call.inputs[0].as<const int32_t>();
  auto* const starts = reinterpret_cast<int32_t*>(call.workspace.data());  // (table rows + 1)
  int32_t* const positions = starts + table_rows + 1;
  std::fill(starts, starts + table_rows + 1, 0);
  for (int64_t i = 0; i < tokens; ++i) ++starts[indices[i] + 1];
  for (int64_t row = 0; row < table_rows; ++row) starts[row + 1] += starts[row];
  // Placing the tokens of a row moves its start to its end.
  for (int64_t i = 0; i < tokens; ++i) positions[starts[indices[i]]++] = static_cast<int32_t>(i);
  return {starts, positions, nullptr};
}

}  // namespace memwall::launchers
