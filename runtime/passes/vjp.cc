#include "runtime/passes/vjp.h"

#include <algorithm>
#include <map>
#include <set>

#include "runtime/graph/ops/op_rules.h"
#include "runtime/graph/rewrite.h"

namespace memwall {
namespace {

Placement transposed(Placement placement) {
  if (placement == Placement::kReplicated) return Placement::kPartial;
  if (placement == Placement::kPartial) return Placement::kReplicated;
  return placement;
}

bool is_parameter(const Node& producer) {
  return producer.op == Op::kAllGather || producer.op == Op::kReplicate;
}

// Elements [offset, offset + count) of a value that is no view.
struct Part {
  ValueId root = kNoValue;
  int64_t offset = 0, count = 0;
};

struct Contribution {
  int64_t offset = 0, count = 0;
  ValueId value = kNoValue;
};

struct GradientBody {
  std::shared_ptr<const Graph> body;
};
// Body, which operands are differentiated (2: summed in the accumulator's type), which results
// have cotangents.
using BodyKey = std::tuple<const Graph*, std::vector<char>, std::vector<char>>;
using BodyCache = std::map<BodyKey, GradientBody>;

constexpr char kSummed = 2;

struct Merged {
  NodeId forward, backward;
  std::vector<ValueId> results;  // the backward node's copies of the forward's results
};

class Backward : public VjpContext {
 public:
  Backward(Graph& graph, const VjpHooks* hooks, BodyCache& bodies)
      : graph_(graph), hooks_(hooks), bodies_(bodies) {}

  void seed(ValueId value, ValueId cotangent) { record(part_of(value), cotangent); }

  // Walks the first `count` nodes backward. `leaves`: operands of a body to differentiate; empty
  // for a main graph, whose leaves are its parameter gathers.
  void run(size_t count, const std::vector<char>& leaves) {
    mark_needed(count, leaves);
    for (size_t i = count; i-- > 0;) visit(static_cast<NodeId>(i));
  }

  // The leaf's cotangent is summed over iterations, or over uses: in the accumulator's type.
  void widen(ValueId leaf) { wide_.insert(leaf); }
  // The assembled cotangent of a leaf, or kNoValue.
  ValueId leaf_cotangent(ValueId leaf) { return assemble(leaf); }
  const std::vector<Merged>& merged() const { return merged_; }
  const std::vector<ParameterGradient>& gradients() const { return gradients_; }

  // VjpContext
  const Node& node() const override { return node_; }
  const Graph& graph() const override { return graph_; }
  bool needs(int input) const override {
    return needed_[static_cast<size_t>(node_.inputs[static_cast<size_t>(input)])];
  }
  ValueId cotangent(int output) const override { return cotangents_[static_cast<size_t>(output)]; }
  void contribute(int input, const std::string& suffix, Op op, Attributes attributes,
                  std::vector<ValueId> inputs) override;
  void pass(int input, ValueId value) override;
  void chunked() override;
  void parameter(ValueId cotangent) override {
    if (cotangent != kNoValue) gradients_.push_back({node_.outputs[0], cotangent, kNoValue});
  }

 private:
  void mark_needed(size_t count, const std::vector<char>& leaves);
  void visit(NodeId id);
  Part part_of(ValueId value) const;
  void record(const Part& part, ValueId cotangent);
  Contribution* find(const Part& part);
  ValueId assemble(ValueId root);
  ValueId converted(ValueId value, DType dtype);
  // What a new contribution adds to: an older one, or the accumulator.
  ValueId addend_for(const Part& part, bool& first_skipped);
  std::shared_ptr<const Graph> gradient_body(const std::vector<char>& wanted,
                                             const std::vector<char>& flows);
  Scope scope() const { return Scope{graph_, node_.name, Phase::kBackward, node_.block}; }
  Type cotangent_type(ValueId primal) const {
    Type type = graph_.type(primal);
    type.placement = transposed(type.placement);
    if (wide_.contains(part_of(primal).root)) type.dtype = accumulator_of(type.dtype);
    return type;
  }

  Graph& graph_;
  const VjpHooks* hooks_;
  BodyCache& bodies_;
  std::vector<char> needed_;
  std::map<ValueId, std::vector<Contribution>> contributions_;  // by root
  std::set<ValueId> wide_;
  std::map<ValueId, ValueId> accumulators_;  // by root
  Node node_;                                // being visited; a copy
  std::vector<ValueId> cotangents_;
  std::vector<Merged> merged_;
  std::vector<ParameterGradient> gradients_;
};

void Backward::mark_needed(size_t count, const std::vector<char>& leaves) {
  needed_.assign(graph_.values.size(), 0);
  for (size_t i = 0; i < count; ++i) {
    const Node& node = graph_.nodes[i];
    bool needed = false;
    if (node.op == Op::kAllGather || node.op == Op::kReplicate) {
      needed = true;
    } else if (node.op == Op::kOperand) {
      needed = leaves[static_cast<size_t>(std::get<StateAttributes>(node.attributes).slot)];
    } else {
      for (ValueId v : node.inputs) needed |= needed_[static_cast<size_t>(v)] != 0;
    }
    for (ValueId v : node.outputs) needed_[static_cast<size_t>(v)] = needed;
  }
}

Part Backward::part_of(ValueId value) const {
  Part part{value, 0, graph_.type(value).shape.elements()};
  while (graph_.producer(part.root).op == Op::kView) {
    const Node& view = graph_.producer(part.root);
    part.offset += std::get<ViewAttributes>(view.attributes).offset;
    part.root = view.inputs[0];
  }
  return part;
}

Contribution* Backward::find(const Part& part) {
  for (Contribution& c : contributions_[part.root]) {
    if (c.offset == part.offset && c.count == part.count) return &c;
    check(c.offset + c.count <= part.offset || part.offset + part.count <= c.offset,
          "views of one value overlap in part", node_.name);
  }
  return nullptr;
}

void Backward::record(const Part& part, ValueId cotangent) {
  if (Contribution* older = find(part)) {
    older->value = cotangent;
  } else {
    contributions_[part.root].push_back({part.offset, part.count, cotangent});
  }
}

ValueId Backward::addend_for(const Part& part, bool& first_skipped) {
  first_skipped = false;
  if (Contribution* older = find(part)) return older->value;
  const Node& producer = graph_.producer(part.root);
  if (!is_parameter(producer) || !hooks_ || !hooks_->accumulator) return kNoValue;
  auto [entry, fresh] = accumulators_.try_emplace(part.root, kNoValue);
  if (fresh) {
    const Node gather = producer;
    entry->second = hooks_->accumulator(scope(), gather);
  }
  if (entry->second == kNoValue) return kNoValue;
  first_skipped = true;
  Type type = graph_.type(entry->second);
  type.shape = Shape{part.count};
  return scope().emit("accumulator", Op::kView, ViewAttributes{part.offset}, {entry->second}, type);
}

void Backward::contribute(int input, const std::string& suffix, Op op, Attributes attributes,
                          std::vector<ValueId> inputs) {
  const ValueId primal = node_.inputs[static_cast<size_t>(input)];
  const Part part = part_of(primal);
  bool first_skipped = false;
  const ValueId addend = addend_for(part, first_skipped);
  Type type = cotangent_type(primal);
  if (addend != kNoValue) type.dtype = graph_.type(addend).dtype;
  Node node;
  node.op = op;
  node.attributes = std::move(attributes);
  node.name = scope().path(suffix);
  node.phase = Phase::kBackward;
  node.block = node_.block;
  node.inputs = std::move(inputs);
  if (addend != kNoValue && rules_of(op).accumulates) {
    node.addends = {addend};
    node.addend_skipped_first = first_skipped;
  }
  const bool separate = addend != kNoValue && node.addends.empty();
  const NodeId id = graph_.add(std::move(node), {type});
  const ValueId fresh = graph_.nodes[static_cast<size_t>(id)].outputs[0];
  if (separate) {
    pass(input, fresh);
  } else {
    record(part, fresh);
  }
}

void Backward::pass(int input, ValueId value) {
  const ValueId primal = node_.inputs[static_cast<size_t>(input)];
  const Part part = part_of(primal);
  bool first_skipped = false;
  const ValueId addend = addend_for(part, first_skipped);
  if (addend == kNoValue) {
    record(part, converted(value, cotangent_type(primal).dtype));
    return;
  }
  Type type = graph_.type(addend);
  if (!first_skipped) {
    const ValueId term = converted(value, type.dtype);
    record(part, scope().emit("sum", Op::kAdd, NoAttributes{}, {addend, term}, type));
    return;
  }
  Node node;
  node.op = Op::kCopy;
  node.attributes = NoAttributes{};
  node.name = scope().path("accumulate");
  node.phase = Phase::kBackward;
  node.block = node_.block;
  node.inputs = {value};
  node.addends = {addend};
  node.addend_skipped_first = true;
  const NodeId id = graph_.add(std::move(node), {type});
  record(part, graph_.nodes[static_cast<size_t>(id)].outputs[0]);
}

ValueId Backward::converted(ValueId value, DType dtype) {
  Type type = graph_.type(value);
  if (type.dtype == dtype) return value;
  type.dtype = dtype;
  return scope().emit("convert", Op::kCopy, NoAttributes{}, {value}, type);
}

// One value for all contributions: itself, or a concat whose gaps are zero.
ValueId Backward::assemble(ValueId root) {
  const auto entry = contributions_.find(root);
  if (entry == contributions_.end()) return kNoValue;
  std::vector<Contribution>& parts = entry->second;
  Type type = cotangent_type(root);
  if (accumulators_.count(root) && accumulators_[root] != kNoValue) {
    type.dtype = graph_.type(accumulators_[root]).dtype;
  }
  const int64_t elements = type.shape.elements();
  if (parts.size() == 1 && parts[0].count == elements) return converted(parts[0].value, type.dtype);
  std::sort(parts.begin(), parts.end(),
            [](const Contribution& a, const Contribution& b) { return a.offset < b.offset; });
  std::vector<ValueId> inputs;
  int64_t end = 0;
  const auto zeros = [&](int64_t count) {
    if (count == 0) return;
    inputs.push_back(scope().emit("zeros", Op::kFill, FillAttributes{}, {},
                                  Type{type.dtype, Shape{count}, type.placement}));
  };
  for (const Contribution& c : parts) {
    zeros(c.offset - end);
    inputs.push_back(converted(c.value, type.dtype));
    end = c.offset + c.count;
  }
  zeros(elements - end);
  return scope().emit("cotangent", Op::kConcat, NoAttributes{}, std::move(inputs), type);
}

void Backward::visit(NodeId id) {
  if (graph_.nodes[static_cast<size_t>(id)].op == Op::kView) return;
  if (graph_.nodes[static_cast<size_t>(id)].op == Op::kOperand) return;
  node_ = graph_.nodes[static_cast<size_t>(id)];
  bool needed = false, flows = false;
  for (ValueId v : node_.outputs) {
    needed |= needed_[static_cast<size_t>(v)] != 0;
    flows |= contributions_.count(v) != 0;
  }
  if (!needed || !flows) return;
  cotangents_.clear();
  for (ValueId v : node_.outputs) cotangents_.push_back(assemble(v));
  const auto rule = rules_of(node_.op).vjp;
  if (rule == nullptr) {
    throw InternalError("op " + std::string(op_name(node_.op)) + " has no derivative", node_.name);
  }
  (*rule)(*this);
}

// The body of a chunked node's backward: the forward body, its backward, and as results the
// cotangents of the wanted operands, then the forward's own results.
std::shared_ptr<const Graph> Backward::gradient_body(const std::vector<char>& wanted,
                                                     const std::vector<char>& flows) {
  auto [entry, fresh] = bodies_.try_emplace({node_.body.get(), wanted, flows});
  if (!fresh) return entry->second.body;
  Graph body = *node_.body;
  const std::vector<GraphOutput> results = body.outputs;
  const size_t forward_nodes = body.nodes.size();
  body.outputs.clear();
  std::map<int64_t, ValueId> operands;
  for (const Node& inner : body.nodes) {
    if (inner.op == Op::kOperand) {
      operands[std::get<StateAttributes>(inner.attributes).slot] = inner.outputs[0];
    }
  }
  const Scope inner_scope{body, "", Phase::kBackward, 0};
  Backward inner(body, nullptr, bodies_);
  auto next = static_cast<int64_t>(wanted.size());
  for (size_t k = 0; k < results.size(); ++k) {
    if (!flows[k]) continue;
    Type type = body.type(results[k].value);
    type.placement = transposed(type.placement);
    inner.seed(results[k].value, inner_scope.emit("cotangent" + std::to_string(k), Op::kOperand,
                                                  StateAttributes{next++}, {}, type));
  }
  for (size_t k = 0; k < wanted.size(); ++k) {
    if (wanted[k] == kSummed) inner.widen(operands[static_cast<int64_t>(k)]);
  }
  inner.run(forward_nodes, wanted);
  for (size_t k = 0; k < wanted.size(); ++k) {
    if (!wanted[k]) continue;
    const ValueId leaf = operands[static_cast<int64_t>(k)];
    const bool summed = wanted[k] == kSummed;
    ValueId value = inner.leaf_cotangent(leaf);
    Type type = body.type(leaf);
    type.placement = transposed(type.placement);
    if (summed) type.dtype = accumulator_of(type.dtype);
    if (value == kNoValue) {
      value = inner_scope.emit("zeros", Op::kFill, FillAttributes{}, {}, type);
    } else if (body.type(value).dtype != type.dtype) {
      value = inner_scope.emit("widen", Op::kCopy, NoAttributes{}, {value}, type);
    }
    body.outputs.push_back({value, -1});
  }
  for (const GraphOutput& result : results) body.outputs.push_back(result);
  entry->second.body = std::make_shared<const Graph>(std::move(body));
  return entry->second.body;
}

void Backward::chunked() {
  Node back;
  back.op = Op::kChunked;
  back.attributes = node_.attributes;
  back.name = scope().path("grad");
  back.phase = Phase::kBackward;
  back.block = node_.block;

  std::vector<char> wanted, flows;
  std::vector<Type> types;
  std::vector<Part> parts;
  std::vector<int64_t> result_periods;
  bool adds_older = false;
  for (ValueId v : cotangents_) flows.push_back(v != kNoValue);
  for (size_t k = 0; k < node_.inputs.size(); ++k) {
    wanted.push_back(needs(static_cast<int>(k)));
    if (!wanted[k]) continue;
    parts.push_back(part_of(node_.inputs[k]));
    for (size_t j = 0; j + 1 < parts.size(); ++j) {
      check(parts[j].root != parts.back().root || parts[j].offset != parts.back().offset,
            "one value is two differentiated operands", node_.name);
    }
    bool first_skipped = false;
    const ValueId addend = addend_for(parts.back(), first_skipped);
    back.addends.push_back(addend);
    back.addend_skipped_first |= first_skipped;
    adds_older |= addend != kNoValue && !first_skipped;
    Type type = cotangent_type(node_.inputs[k]);
    // A parameter's gradient stays wide until its scatter, for other uses add to it.
    const bool parameter = is_parameter(graph_.producer(parts.back().root));
    const bool wide = addend != kNoValue && graph_.type(addend).dtype != type.dtype;
    if (node_.periods[k] > 1 || parameter || wide) {
      wanted[k] = kSummed;
      type.dtype = accumulator_of(type.dtype);
    }
    types.push_back(type);
    result_periods.push_back(node_.periods[k]);
  }
  back.body = gradient_body(wanted, flows);
  back.inputs = node_.inputs;
  back.periods.assign(node_.periods.begin(),
                      node_.periods.begin() + static_cast<int64_t>(node_.inputs.size()));
  for (size_t k = 0; k < cotangents_.size(); ++k) {
    if (!flows[k]) continue;
    back.inputs.push_back(cotangents_[k]);
    back.periods.push_back(node_.periods[node_.inputs.size() + k]);
  }
  back.periods.insert(back.periods.end(), result_periods.begin(), result_periods.end());
  for (size_t k = 0; k < node_.outputs.size(); ++k) {
    types.push_back(graph_.type(node_.outputs[k]));
    back.periods.push_back(node_.periods[node_.inputs.size() + k]);
    back.addends.push_back(kNoValue);
  }
  // The rule of when to add is the node's, so an accumulator and an older contribution cannot both
  // be addends of one node.
  check(!back.addend_skipped_first || !adds_older, "addends of two kinds", node_.name);
  const auto absent = [](ValueId v) { return v == kNoValue; };
  if (std::all_of(back.addends.begin(), back.addends.end(), absent)) back.addends.clear();
  const NodeId forward = graph_.values[static_cast<size_t>(node_.outputs[0])].node;
  const NodeId id = graph_.add(std::move(back), types);
  const std::vector<ValueId> outputs = graph_.nodes[static_cast<size_t>(id)].outputs;
  for (size_t k = 0; k < parts.size(); ++k) record(parts[k], outputs[k]);
  merged_.push_back(
      {forward, id, {outputs.begin() + static_cast<int64_t>(parts.size()), outputs.end()}});
}

}  // namespace

Differentiated vjp(Graph& graph, ValueId loss, ValueId seed, const VjpHooks& hooks) {
  BodyCache bodies;
  Backward backward(graph, &hooks, bodies);
  backward.seed(loss, seed);
  backward.run(graph.nodes.size(), {});
  const std::vector<int32_t> uses = count_uses(graph);
  for (const Merged& merge : backward.merged()) {
    const Node& forward = graph.nodes[static_cast<size_t>(merge.forward)];
    graph.nodes[static_cast<size_t>(merge.backward)].repeats_forward = true;
    const bool alone = std::all_of(forward.outputs.begin(), forward.outputs.end(),
                                   [&](ValueId v) { return uses[static_cast<size_t>(v)] == 0; });
    if (!alone) continue;
    graph.nodes[static_cast<size_t>(merge.backward)].repeats_forward = false;
    for (size_t k = 0; k < forward.outputs.size(); ++k) {
      if (forward.outputs[k] == loss) loss = merge.results[k];
    }
  }
  return {loss, backward.gradients()};
}

}  // namespace memwall
