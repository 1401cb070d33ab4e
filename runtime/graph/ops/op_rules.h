// What the graph knows of an op, beside its attributes: one entry an op.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/base/target.h"
#include "runtime/graph/graph.h"

namespace memwall {

class VjpContext;

// How tangents, derivatives along one direction of parameter space, pass through an op.
enum class TangentRule : uint8_t {
  kNone,     // not at all: a node whose inputs have tangents is refused
  kLinear,   // the same op on the tangents of the floating-point inputs
  kProduct,  // bilinear in its two inputs
  kDual,     // the op's kernel on dual numbers
  kBody,     // chunked: through its body
};

struct OpRules {
  // Types of the outputs from inputs and attributes; nullptr where whoever emits the node states
  // them (leaves, views, fills, chunked). The placement is the first batch-split input's, else the
  // first input's.
  std::vector<Type> (*infer)(const Graph&, const Node&) = nullptr;
  // Emits the cotangents of the node's inputs; nullptr: not differentiable.
  void (*vjp)(VjpContext&) = nullptr;
  TangentRule tangent = TangentRule::kNone;
  // Floating-point operations of one execution; in a body, the mean over a period's iterations.
  int64_t (*flops)(const Graph&, const Node&) = nullptr;
  // Scratch bytes; on a GPU those of device_workspace_bytes, where there are such rules.
  int64_t (*workspace_bytes)(const Graph&, const Node&) = nullptr;
  int64_t (*device_workspace_bytes)(const Graph&, const Node&) = nullptr;
  // (output, input): the output may exactly overwrite the input, each element of which is read
  // before it is written.
  std::vector<std::pair<int32_t, int32_t>> in_place;
  // outputs[0] can be added to what is there.
  bool accumulates = false;
};

const OpRules& rules_of(Op op);

// Scratch of a node's kernel in bytes; -1 where the op never needs any.
int64_t workspace_of(const Graph& graph, const Node& node, Backend backend);

// A dual node without its tangents; any other node as it is.
Node without_tangents(const Graph& graph, const Node& node);
// The rules' in_place; of a dual node also among tangents.
std::vector<std::pair<int32_t, int32_t>> in_place_pairs(const Graph& graph, const Node& node);
// Floating-point operations of one execution; of a dual node three times the op's, for a product of
// dual numbers takes three.
int64_t flops_of(const Graph& graph, const Node& node);

// Emits cotangents while vjp walks a graph backward (passes/vjp.h). All indices are positions among
// the node's inputs or outputs.
class VjpContext {
 public:
  virtual ~VjpContext() = default;
  virtual const Node& node() const = 0;
  virtual const Graph& graph() const = 0;
  virtual bool needs(int input) const = 0;
  virtual ValueId cotangent(int output) const = 0;  // kNoValue where nothing flows back
  // A contribution to the cotangent of `input`: a new node, to which older contributions are the
  // addend where the op accumulates.
  virtual void contribute(int input, const std::string& suffix, Op op, Attributes attributes,
                          std::vector<ValueId> inputs) = 0;
  // A contribution that exists already.
  virtual void pass(int input, ValueId value) = 0;
  // Chunked nodes and parameter gathers are the pass's own business.
  virtual void chunked() = 0;
  virtual void parameter(ValueId cotangent) = 0;
};

}  // namespace memwall
