// Placing the body of a chunked node: its storage relative to operands, results and a workspace.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "runtime/base/target.h"
#include "runtime/graph/graph.h"
#include "runtime/passes/storage.h"
#include "runtime/plan/plan.h"

namespace memwall {

struct PlacedBody {
  Graph graph;  // with the copies storage needed
  Storage storage;
  std::vector<int64_t> offsets;  // by buffer, in the workspace
  std::vector<int64_t> scratch;  // by node: offset of its kernel's scratch, or -1
  int64_t workspace_bytes = 0;
};

// Bodies are shared between blocks; so are their placements.
class BodyPlacer {
 public:
  const PlacedBody& placed(const Graph& graph, const Node& chunked, Backend backend);

 private:
  using Key = std::pair<const Graph*, std::vector<char>>;  // body, which results accumulate
  std::map<Key, std::unique_ptr<PlacedBody>> cache_;
};

// The steps of one chunked node: outer operands and the workspace are known. Local values are
// appended to plan.values.
Body instantiate_body(const Node& chunked, const PlacedBody& placed,
                      const std::vector<Operand>& operands, const std::vector<Operand>& results,
                      const Operand& workspace, Plan& plan);

// What a step is apart from where its operands lie.
Step describe(const Graph& graph, const Node& node);

}  // namespace memwall
