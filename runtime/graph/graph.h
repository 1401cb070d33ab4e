// The graph: a training step as values and nodes, before anything is placed.
//
// Append-only and topologically ordered: a node's inputs were made before it. Passes that change a
// graph build a new one (rewrite.h). Shapes are static; everything a node does follows from its op
// and attributes (base/op.h, ops/).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/base/op.h"
#include "runtime/base/shape.h"

namespace memwall {

using ValueId = int32_t;
using NodeId = int32_t;
constexpr ValueId kNoValue = -1;

// How a value is spread over ranks. A cotangent's placement follows from its primal's: Replicated
// and Partial exchange, the split ones keep theirs.
enum class Placement : uint8_t {
  kReplicated,  // the same on all ranks
  kPartial,     // a sum over ranks is due
  kBatchSplit,  // each rank has the rows of its own samples
  kShard,       // each rank has its slice of a flat buffer
};

struct Type {
  DType dtype = DType::kF32;
  Shape shape;
  Placement placement = Placement::kReplicated;
  bool operator==(const Type&) const = default;
  int64_t bytes() const { return shape.elements() * size_of(dtype); }
};

struct Value {
  Type type;
  NodeId node = -1;
  int32_t result = 0;  // which of the node's outputs
};

enum class Phase : uint8_t { kForward, kBackward, kUpdate };

struct Graph;

struct Node {
  Op op = Op::kCopy;
  Attributes attributes;
  std::string name;  // path-like, "block3/attn/qkv"
  Phase phase = Phase::kForward;
  int32_t block = 0;             // 0: embedding, 1 + i: block i, last: head
  bool recomputed = false;       // a clone that restores an evicted value
  bool repeats_forward = false;  // kChunked: a backward body that runs a live forward's body again
  bool tangent = false;          // computes tangents only (passes/dual.h)
  // Computes values and tangents: inputs, then the tangents of the floating-point ones; outputs,
  // then their tangents. outputs[0] and its tangent have an addend both, or neither.
  bool dual = false;
  NodeId origin = -1;  // the node (of the graph this one was rewritten from) it derives from
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  // Accumulation: output k is addends[k] + result. Empty, or one entry an output (kNoValue: none).
  std::vector<ValueId> addends;
  // The first micro-step of a step overwrites instead of adding (addends are accumulators).
  bool addend_skipped_first = false;
  // kChunked: the body, and a period for each input, then for each output.
  std::shared_ptr<const Graph> body;
  std::vector<int64_t> periods;
};

struct GraphOutput {
  ValueId value = kNoValue;
  int64_t slot = -1;  // main graphs: the slot that holds the value afterwards
};

struct Graph {
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<GraphOutput> outputs;  // bodies: results in order
  int32_t last_block = 0;            // the head's

  // Appends `node`, whose outputs get the given types; checks inputs and arity.
  NodeId add(Node node, const std::vector<Type>& types);
  const Type& type(ValueId v) const { return values[static_cast<size_t>(v)].type; }
  const Node& producer(ValueId v) const {
    return nodes[static_cast<size_t>(values[static_cast<size_t>(v)].node)];
  }
};

// Where new nodes go and how they are labelled.
struct Scope {
  Graph& graph;
  std::string prefix;  // "block3/attn"
  Phase phase = Phase::kForward;
  int32_t block = 0;

  Scope sub(const std::string& name) const {
    return Scope{graph, prefix.empty() ? name : prefix + "/" + name, phase, block};
  }
  Scope at_block(int32_t b) const { return Scope{graph, prefix, phase, b}; }
  std::string path(const std::string& name) const {
    return prefix.empty() ? name : prefix + "/" + name;
  }
  // One-output nodes whose type the op infers, or that is given.
  ValueId emit(const std::string& name, Op op, Attributes attributes,
               std::vector<ValueId> inputs) const;
  ValueId emit(const std::string& name, Op op, Attributes attributes, std::vector<ValueId> inputs,
               const Type& type) const;
  NodeId emit_all(const std::string& name, Op op, Attributes attributes,
                  std::vector<ValueId> inputs, const std::vector<Type>& types) const;
};

// The position of a node's region in the order of execution: forward through the blocks to the
// head, whose forward and backward are one region, and back.
int32_t region_of(const Graph& graph, const Node& node);

// True for nodes that only name bytes: state, operand, views, concat, replicate.
bool is_alias(Op op);

// Throws InternalError naming the node at fault: order, single definition, dtypes and shapes (by
// each op's own inference), placements, body arity and periods, outputs.
void verify_graph(const Graph& graph);

}  // namespace memwall
