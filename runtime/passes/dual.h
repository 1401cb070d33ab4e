// Forward-mode differentiation of a graph, chunked bodies included. On a graph that vjp has
// completed, with the parameters' tangents z as seeds, the cotangents' tangents are H z: forward
// over reverse (Pearlmutter 1994, "Fast exact multiplication by the Hessian").
#pragma once

#include <map>
#include <vector>

#include "runtime/graph/graph.h"

namespace memwall {

struct WithTangents {
  Graph graph;
  std::vector<ValueId> values;    // of the old graph's values
  std::vector<ValueId> tangents;  // likewise; kNoValue: it has none, that is zero
};

// `seeds`: tangents, values of `graph`, of some of its values, each computed before anything reads
// the seeded value. Linear and bilinear ops get ordinary nodes on tangents; other ops run on dual
// numbers (OpRules::tangent). A tangent has the type of its value. Throws InternalError naming the
// node where an op has no rule.
WithTangents dual(const Graph& graph, const std::map<ValueId, ValueId>& seeds);

// The name of the node that a tangent's node was made for: names of policies stand for both.
std::string primal_name(const Node& node);

}  // namespace memwall
