#include "runtime/passes/dual.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "runtime/graph/ops/op_rules.h"
#include "runtime/graph/rewrite.h"

namespace memwall {
namespace {

constexpr std::string_view kSuffix = "/tangent";

bool any(const std::vector<char>& mask) {
  return std::find(mask.begin(), mask.end(), char{1}) != mask.end();
}

// A body with tangents: its operands, then the tangents of those that have one; its results, then
// theirs.
struct DualBody {
  std::shared_ptr<const Graph> body;
  std::vector<char> results;  // which results have tangents
};
using BodyCache = std::map<std::pair<const Graph*, std::vector<char>>, DualBody>;

class Dual {
 public:
  Dual(const Graph& from, BodyCache& bodies)
      : from_(from),
        rewriter_(from, to_),
        bodies_(bodies),
        tangents_(from.values.size(), kNoValue) {}

  // Tangents by values of the old graph.
  WithTangents run(const std::map<ValueId, ValueId>& seeds) {
    std::map<ValueId, ValueId> seeded;  // by seed
    for (const auto& [value, seed] : seeds) seeded[seed] = value;
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      visit(static_cast<NodeId>(i));
      for (ValueId v : from_.nodes[i].outputs) {
        if (const auto of = seeded.find(v); of != seeded.end()) set(of->second, rewriter_.map(v));
      }
    }
    return finish();
  }

  // Of a body: `operands` says which have tangents.
  DualBody run_body(const std::vector<char>& operands) {
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      visit(static_cast<NodeId>(i));
      const Node& node = from_.nodes[i];
      if (node.op != Op::kOperand) continue;
      const auto k = std::get<StateAttributes>(node.attributes).slot;
      if (!operands[static_cast<size_t>(k)]) continue;
      const auto before = std::count(operands.begin(), operands.begin() + k, char{1});
      operand_tangent(node, static_cast<int64_t>(operands.size()) + before);
    }
    DualBody body;
    rewriter_.finish();
    for (const GraphOutput& output : from_.outputs) {
      const ValueId tangent = tangents_[static_cast<size_t>(output.value)];
      body.results.push_back(tangent != kNoValue);
      if (tangent != kNoValue) to_.outputs.push_back({tangent, -1});
    }
    body.body = std::make_shared<const Graph>(std::move(to_));
    return body;
  }

 private:
  void operand_tangent(const Node& operand, int64_t number) {
    const ValueId v = operand.outputs[0];
    Node node;
    node.op = Op::kOperand;
    node.attributes = StateAttributes{number};
    node.name = operand.name + std::string(kSuffix);
    node.phase = operand.phase;
    node.block = operand.block;
    set(v, add(std::move(node), from_.type(v)));
  }

  WithTangents finish() {
    rewriter_.finish();
    WithTangents out;
    for (size_t i = 0; i < from_.values.size(); ++i) {
      out.values.push_back(rewriter_.map(static_cast<ValueId>(i)));
    }
    out.tangents = std::move(tangents_);
    out.graph = std::move(to_);
    return out;
  }

  ValueId tangent(ValueId old) const {
    return old < 0 ? kNoValue : tangents_[static_cast<size_t>(old)];
  }
  void set(ValueId old, ValueId tangent) { tangents_[static_cast<size_t>(old)] = tangent; }
  bool floating(ValueId old) const { return is_floating(from_.type(old).dtype); }

  ValueId add(Node node, const Type& type) {
    const NodeId id = to_.add(std::move(node), {type});
    return to_.nodes[static_cast<size_t>(id)].outputs[0];
  }
  // A node on tangents, beside `node` of the old graph.
  Node beside(const Node& node, std::vector<ValueId> inputs) const {
    Node fresh = node;
    fresh.name += kSuffix;
    fresh.tangent = true;
    fresh.origin = from_.values[static_cast<size_t>(node.outputs[0])].node;
    fresh.inputs = std::move(inputs);
    fresh.addends.clear();
    fresh.addend_skipped_first = false;
    return fresh;
  }
  // An accumulator that the first micro-step overwrites belongs to the value alone: whoever asks
  // for H z adds up what comes out.
  ValueId addend_tangent(const Node& node, size_t k) const {
    if (node.addends.empty() || node.addend_skipped_first) return kNoValue;
    return tangent(node.addends[k]);
  }

  ValueId tangent_or_zeros(ValueId old, const Node& reader) {
    if (tangent(old) != kNoValue) return tangent(old);
    const auto [entry, fresh] = zeros_.try_emplace(old, kNoValue);
    if (fresh) {
      Node zeros = beside(reader, {});
      zeros.op = Op::kFill;
      zeros.attributes = FillAttributes{};
      zeros.name = reader.name + "/zeros";
      zeros.body = nullptr;
      zeros.periods.clear();
      entry->second = add(std::move(zeros), from_.type(old));
    }
    return entry->second;
  }

  void visit(NodeId id) {
    const Node& node = from_.nodes[static_cast<size_t>(id)];
    std::vector<char> has;
    for (ValueId v : node.inputs) has.push_back(tangent(v) != kNoValue);
    bool addends = false;
    for (size_t k = 0; k < node.addends.size(); ++k) addends |= addend_tangent(node, k) != kNoValue;
    if (!any(has)) {
      rewriter_.copy(id);
      if (addends) pass_addends(node);
      return;
    }
    switch (rules_of(node.op).tangent) {
      case TangentRule::kLinear: linear(id, has); return;
      case TangentRule::kProduct: product(id); return;
      case TangentRule::kDual: on_duals(id); return;
      case TangentRule::kBody: chunked(id, has); return;
      case TangentRule::kNone: break;
    }
    throw InternalError("op " + std::string(op_name(node.op)) + " has no rule for tangents",
                        node.name);
  }

  // What is added has no tangent.
  void pass_addends(const Node& node) {
    for (size_t k = 0; k < node.addends.size(); ++k) set(node.outputs[k], addend_tangent(node, k));
  }

  void linear(NodeId id, const std::vector<char>& has) {
    rewriter_.copy(id);
    const Node& node = from_.nodes[static_cast<size_t>(id)];
    const ValueId out = node.outputs[0], addend = addend_tangent(node, 0);
    check(addend == kNoValue || rules_of(node.op).accumulates, "a tangent cannot be added",
          node.name);
    if (node.op == Op::kAdd && !(has[0] && has[1])) {
      set(out, tangent(node.inputs[has[0] ? 0 : 1]));
      return;
    }
    if (node.op == Op::kBias && !has[1]) {
      set(out, tangent(node.inputs[0]));
      return;
    }
    std::vector<ValueId> inputs;
    for (ValueId v : node.inputs) {
      inputs.push_back(floating(v) ? tangent_or_zeros(v, node) : rewriter_.map(v));
    }
    Node fresh = beside(node, std::move(inputs));
    if (addend != kNoValue) fresh.addends = {addend};
    set(out, add(std::move(fresh), from_.type(out)));
  }

  // (a b)' = a' b + a b'.
  void product(NodeId id) {
    rewriter_.copy(id);
    const Node& node = from_.nodes[static_cast<size_t>(id)];
    const ValueId a = node.inputs[0], b = node.inputs[1], out = node.outputs[0];
    ValueId sum = addend_tangent(node, 0);
    const auto term = [&](ValueId left, ValueId right, const char* which) {
      Node fresh = beside(node, {left, right});
      fresh.name += which;
      if (sum != kNoValue) fresh.addends = {sum};
      sum = add(std::move(fresh), from_.type(out));
    };
    if (tangent(a) != kNoValue) term(tangent(a), rewriter_.map(b), "");
    if (tangent(b) != kNoValue) term(rewriter_.map(a), tangent(b), "2");
    set(out, sum);
  }

  void on_duals(NodeId id) {
    const Node& node = from_.nodes[static_cast<size_t>(id)];
    Node fresh = node;
    fresh.dual = true;
    fresh.origin = id;
    std::vector<ValueId> tangents;
    for (ValueId& v : fresh.inputs) {
      if (floating(v)) tangents.push_back(tangent_or_zeros(v, node));
      v = rewriter_.map(v);
    }
    fresh.inputs.insert(fresh.inputs.end(), tangents.begin(), tangents.end());
    std::vector<Type> types;
    for (ValueId v : node.outputs) types.push_back(from_.type(v));
    types.insert(types.end(), types.begin(), types.end());
    const size_t results = node.outputs.size();
    // Kernels add to both first results, or to none: an addend of the value alone is added apart.
    ValueId apart = kNoValue;
    fresh.addends.clear();
    if (!node.addends.empty()) {
      const ValueId addend = addend_tangent(node, 0);
      if (addend == kNoValue) {
        apart = rewriter_.map(node.addends[0]);
        fresh.addend_skipped_first = false;
      } else {
        fresh.addends.assign(2 * results, kNoValue);
        fresh.addends[0] = rewriter_.map(node.addends[0]);
        fresh.addends[results] = addend;
      }
    }
    const NodeId made = to_.add(std::move(fresh), types);
    const std::vector<ValueId> outputs = to_.nodes[static_cast<size_t>(made)].outputs;
    for (size_t k = 0; k < results; ++k) {
      rewriter_.set(node.outputs[k], outputs[k]);
      set(node.outputs[k], outputs[results + k]);
    }
    if (apart == kNoValue) return;
    Node sum = beside(node, {outputs[0]});
    sum.op = Op::kCopy;
    sum.attributes = NoAttributes{};
    sum.name = node.name + "/accumulate";
    sum.tangent = false;
    sum.addends = {apart};
    sum.addend_skipped_first = node.addend_skipped_first;
    rewriter_.set(node.outputs[0], add(std::move(sum), from_.type(node.outputs[0])));
  }

  void chunked(NodeId id, const std::vector<char>& has) {
    const Node& node = from_.nodes[static_cast<size_t>(id)];
    const DualBody& dual = body_of(node, has);
    Node fresh = node;
    fresh.origin = id;
    fresh.body = dual.body;
    const size_t operands = node.inputs.size(), results = node.outputs.size();
    std::vector<Type> types;
    std::vector<int64_t> operand_periods(node.periods.begin(),
                                         node.periods.begin() + static_cast<int64_t>(operands));
    std::vector<int64_t> result_periods(node.periods.begin() + static_cast<int64_t>(operands),
                                        node.periods.end());
    for (size_t k = 0; k < operands; ++k) {
      fresh.inputs[k] = rewriter_.map(node.inputs[k]);
      if (!has[k]) continue;
      fresh.inputs.push_back(tangent(node.inputs[k]));
      operand_periods.push_back(node.periods[k]);
    }
    for (ValueId& v : fresh.addends) v = rewriter_.map(v);
    for (ValueId v : node.outputs) types.push_back(from_.type(v));
    for (size_t k = 0; k < results; ++k) {
      if (!dual.results[k]) continue;
      types.push_back(types[k]);
      result_periods.push_back(node.periods[operands + k]);
      if (!node.addends.empty()) fresh.addends.push_back(addend_tangent(node, k));
    }
    fresh.periods = std::move(operand_periods);
    fresh.periods.insert(fresh.periods.end(), result_periods.begin(), result_periods.end());
    const NodeId made = to_.add(std::move(fresh), types);
    const std::vector<ValueId> outputs = to_.nodes[static_cast<size_t>(made)].outputs;
    size_t next = results;
    for (size_t k = 0; k < results; ++k) {
      rewriter_.set(node.outputs[k], outputs[k]);
      set(node.outputs[k], dual.results[k] ? outputs[next++] : addend_tangent(node, k));
    }
  }

  const DualBody& body_of(const Node& node, const std::vector<char>& has) {
    const auto [entry, fresh] = bodies_.try_emplace({node.body.get(), has});
    if (fresh) entry->second = Dual(*node.body, bodies_).run_body(has);
    return entry->second;
  }

  const Graph& from_;
  Graph to_;
  Rewriter rewriter_;
  BodyCache& bodies_;
  std::vector<ValueId> tangents_;     // of the new graph, by values of the old one
  std::map<ValueId, ValueId> zeros_;  // likewise, of values that have none
};

}  // namespace

WithTangents dual(const Graph& graph, const std::map<ValueId, ValueId>& seeds) {
  BodyCache bodies;
  return Dual(graph, bodies).run(seeds);
}

std::string primal_name(const Node& node) {
  const size_t suffix = node.tangent ? node.name.rfind(kSuffix) : std::string::npos;
  return node.name.substr(0, suffix);
}

}  // namespace memwall
