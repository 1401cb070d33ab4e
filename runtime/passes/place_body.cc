#include "runtime/passes/place_body.h"

#include "memory/placement.h"
#include "runtime/base/math.h"
#include "runtime/graph/ops/op_rules.h"
#include "runtime/passes/place.h"

namespace memwall {
namespace {

std::vector<char> accumulating_results(const Node& chunked) {
  std::vector<char> out;
  for (size_t k = 0; k < chunked.outputs.size(); ++k) {
    const bool addend = !chunked.addends.empty() && chunked.addends[k] != kNoValue;
    out.push_back(addend || chunked.periods[chunked.inputs.size() + k] > 1);
  }
  return out;
}

Accumulate rule_of(const Node& chunked, size_t result) {
  const bool addend = !chunked.addends.empty() && chunked.addends[result] != kNoValue;
  if (!addend) return Accumulate::kUnlessFirstOfPeriod;
  return chunked.addend_skipped_first ? Accumulate::kUnlessFirstOfBoth : Accumulate::kAlways;
}

PlacedBody place_body(const Graph& graph, const Node& chunked, const std::vector<char>& adds,
                      Backend backend) {
  PlacedBody placed;
  placed.graph = *chunked.body;
  const auto slice = [&](ValueId v, size_t k) {
    const int64_t count = std::get<ChunkedAttributes>(chunked.attributes).count;
    return graph.type(v).bytes() / (count / chunked.periods[k]);
  };
  for (int attempt = 0;; ++attempt) {
    check(attempt < 8, "storage of a body does not settle", chunked.name);
    StorageProblem problem{placed.graph, {}, {}, {}};
    for (size_t i = 0; i < placed.graph.nodes.size(); ++i) {
      problem.complete.push_back(static_cast<int32_t>(i));
    }
    for (size_t k = 0; k < chunked.inputs.size(); ++k) {
      problem.external_bytes.push_back(slice(chunked.inputs[k], k));
    }
    for (size_t k = 0; k < chunked.outputs.size(); ++k) {
      problem.targets.push_back(
          {static_cast<int32_t>(problem.external_bytes.size()), adds[k] != 0});
      problem.external_bytes.push_back(slice(chunked.outputs[k], chunked.inputs.size() + k));
    }
    placed.storage = assign_storage(problem);
    if (placed.storage.copies.empty()) break;
    placed.graph = with_copies(placed.graph, placed.storage.copies);
  }

  std::vector<Interval> intervals;
  std::vector<int32_t> interval_of(placed.storage.buffers.size(), -1);
  for (size_t b = 0; b < placed.storage.buffers.size(); ++b) {
    const Buffer& buffer = placed.storage.buffers[b];
    if (buffer.external >= 0 || buffer.merged_into >= 0) continue;
    interval_of[b] = static_cast<int32_t>(intervals.size());
    intervals.push_back({buffer.bytes, buffer.first, buffer.last});
  }
  std::vector<int32_t> scratch_of(placed.graph.nodes.size(), -1);
  for (size_t i = 0; i < placed.graph.nodes.size(); ++i) {
    const Node& node = placed.graph.nodes[i];
    const int64_t bytes = workspace_of(placed.graph, node, backend);
    if (bytes < 0) continue;
    scratch_of[i] = static_cast<int32_t>(intervals.size());
    intervals.push_back({bytes, static_cast<int32_t>(i), static_cast<int32_t>(i)});
  }
  const Placed where = place_intervals(intervals, kArenaAlignment);
  placed.workspace_bytes = where.bytes;
  placed.offsets.assign(placed.storage.buffers.size(), 0);
  for (size_t b = 0; b < interval_of.size(); ++b) {
    if (interval_of[b] >= 0) placed.offsets[b] = where.offsets[static_cast<size_t>(interval_of[b])];
  }
  placed.scratch.assign(placed.graph.nodes.size(), -1);
  for (size_t i = 0; i < scratch_of.size(); ++i) {
    if (scratch_of[i] >= 0) placed.scratch[i] = where.offsets[static_cast<size_t>(scratch_of[i])];
  }
  return placed;
}

// Turns values of a body into operands of its steps.
class BodyOperands {
 public:
  BodyOperands(const Node& chunked, const PlacedBody& placed, const std::vector<Operand>& externals,
               const Operand& workspace, Plan& plan)
      : chunked_(chunked),
        placed_(placed),
        externals_(externals),
        workspace_(workspace),
        plan_(plan),
        result_of_(placed.graph.values.size(), -1),
        local_(placed.graph.values.size(), -1) {
    for (size_t k = 0; k < placed.graph.outputs.size(); ++k) {
      result_of_[static_cast<size_t>(placed.graph.outputs[k].value)] =
          static_cast<int32_t>(chunked.inputs.size() + k);
    }
  }

  Operand at(ValueId v) {
    const Graph& body = placed_.graph;
    const Location& location = placed_.storage.locations[static_cast<size_t>(v)];
    const Buffer& buffer = placed_.storage.buffers[static_cast<size_t>(location.buffer)];
    Operand operand;
    operand.dtype = body.type(v).dtype;
    operand.shape = body.type(v).shape;
    operand.bytes = body.type(v).bytes();
    if (buffer.external >= 0) {
      const auto k = static_cast<size_t>(buffer.external);
      const Operand& outer = externals_[k];
      operand.base = outer.base + location.offset;
      operand.rank_stride = outer.rank_stride;
      operand.period = chunked_.periods[k];
      operand.iteration_bytes =
          outer.bytes / (std::get<ChunkedAttributes>(chunked_.attributes).count / operand.period);
    } else {
      operand.base =
          workspace_.base + placed_.offsets[static_cast<size_t>(location.buffer)] + location.offset;
    }
    tag(v, operand);
    return operand;
  }

  Operand scratch(NodeId id, int64_t bytes) {
    Operand operand;
    operand.dtype = DType::kI32;
    operand.bytes = bytes;
    operand.shape = Shape{bytes / 4};
    operand.base = workspace_.base + placed_.scratch[static_cast<size_t>(id)];
    operand.value = fresh("scratch", bytes);
    return operand;
  }

 private:
  int32_t fresh(const std::string& name, int64_t bytes) {
    plan_.values.push_back({chunked_.name + "/" + name, Category::kWorkspace, bytes});
    return static_cast<int32_t>(plan_.values.size()) - 1;
  }
  // Operands and results carry the outer value; what lives within an iteration its own.
  void tag(ValueId v, Operand& operand) {
    const Node& node = placed_.graph.producer(v);
    if (node.op == Op::kView) {
      tag(node.inputs[0], operand);
      operand.start += std::get<ViewAttributes>(node.attributes).offset * size_of(operand.dtype);
      return;
    }
    int32_t outer = result_of_[static_cast<size_t>(v)];
    if (node.op == Op::kOperand) {
      outer = static_cast<int32_t>(std::get<StateAttributes>(node.attributes).slot);
    }
    // Terms of a sum that ends as a result lie in its place, and are the result so far.
    if (outer < 0) {
      outer = placed_.storage
                  .buffers[static_cast<size_t>(
                      placed_.storage.locations[static_cast<size_t>(v)].buffer)]
                  .external;
    }
    if (outer >= 0) {
      const Operand& external = externals_[static_cast<size_t>(outer)];
      operand.value = external.value;
      operand.start = external.start;
      operand.rank_start = external.rank_start;
      operand.iteration_start = operand.iteration_bytes;
      return;
    }
    int32_t& local = local_[static_cast<size_t>(v)];
    if (local < 0) local = fresh(node.name, operand.bytes);
    operand.value = local;
  }

  const Node& chunked_;
  const PlacedBody& placed_;
  const std::vector<Operand>& externals_;
  const Operand& workspace_;
  Plan& plan_;
  std::vector<int32_t> result_of_, local_;
};

}  // namespace

const PlacedBody& BodyPlacer::placed(const Graph& graph, const Node& chunked, Backend backend) {
  std::vector<char> adds = accumulating_results(chunked);
  auto [entry, fresh] = cache_.try_emplace({chunked.body.get(), adds});
  if (fresh)
    entry->second = std::make_unique<PlacedBody>(place_body(graph, chunked, adds, backend));
  return *entry->second;
}

Step describe(const Graph& graph, const Node& node) {
  Step step;
  step.name = node.name;
  step.op = node.op;
  step.attributes = node.attributes;
  step.backward = node.phase == Phase::kBackward;
  step.recomputed = node.recomputed;
  step.block = node.block;
  step.tangent = node.tangent;
  step.dual = node.dual;
  step.flops = flops_of(graph, node);
  return step;
}

Body instantiate_body(const Node& chunked, const PlacedBody& placed,
                      const std::vector<Operand>& operands, const std::vector<Operand>& results,
                      const Operand& workspace, Plan& plan) {
  std::vector<Operand> externals = operands;
  externals.insert(externals.end(), results.begin(), results.end());
  BodyOperands address(chunked, placed, externals, workspace, plan);
  Body body;
  body.count = std::get<ChunkedAttributes>(chunked.attributes).count;
  for (size_t i = 0; i < placed.graph.nodes.size(); ++i) {
    const Node& node = placed.graph.nodes[i];
    if (is_alias(node.op)) continue;
    Step step = describe(placed.graph, node);
    step.name = chunked.name + "/" + node.name;
    step.backward = chunked.phase == Phase::kBackward;
    step.recomputed =
        chunked.recomputed || (chunked.repeats_forward && node.phase == Phase::kForward);
    step.block = chunked.block;
    step.flops *= body.count;
    for (ValueId v : node.inputs) step.inputs.push_back(address.at(v));
    for (ValueId v : node.outputs) step.outputs.push_back(address.at(v));
    step.in_place = in_place_pairs(placed.graph, node);
    for (ValueId v : node.addends) {
      step.addends.push_back(v == kNoValue ? Operand{} : address.at(v));
      if (v != kNoValue) step.accumulate = Accumulate::kAlways;
    }
    if (placed.storage.accumulates[i]) {
      const auto k = static_cast<size_t>(
          placed.storage
              .buffers[static_cast<size_t>(
                  placed.storage.locations[static_cast<size_t>(node.outputs[0])].buffer)]
              .external);
      step.accumulate = rule_of(chunked, k - chunked.inputs.size());
      step.accumulate_period = chunked.periods[k];
    }
    const int64_t scratch = workspace_of(placed.graph, node, backend_of(plan.target));
    if (scratch >= 0) step.workspace = address.scratch(static_cast<NodeId>(i), scratch);
    for (const auto* list : {&step.inputs, &step.outputs}) {
      for (const Operand& o : *list) step.dram_bytes += o.bytes * body.count;
    }
    body.steps.push_back(std::move(step));
  }
  return body;
}

}  // namespace memwall
