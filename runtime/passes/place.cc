#include "runtime/passes/place.h"

#include <algorithm>

#include "memory/placement.h"
#include "runtime/base/collective.h"
#include "runtime/base/math.h"
#include "runtime/graph/ops/op_rules.h"
#include "runtime/passes/place_body.h"
#include "runtime/passes/schedule.h"
#include "runtime/passes/storage.h"

namespace memwall {
namespace {

constexpr int32_t kUntagged = -1;

class Placer {
 public:
  Placer(Graph graph, const PlaceRequest& request, Plan& plan)
      : graph_(std::move(graph)), request_(request), plan_(plan) {}

  Program run(int64_t& lower_bound) {
    settle_storage();
    place_buffers(lower_bound);
    tag_concats();
    program_.name = request_.name;
    program_.host_slots = request_.host_slots;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!is_alias(graph_.nodes[i].op)) emit(static_cast<NodeId>(i));
    }
    for (const GraphOutput& output : graph_.outputs) {
      program_.results.push_back({static_cast<int32_t>(output.slot), operand(output.value)});
    }
    return std::move(program_);
  }

 private:
  struct Extra {  // storage of a node beside its values: receive buffers, scratch, workspaces
    int64_t bytes = 0;
    Category category = Category::kWorkspace;
    int32_t interval = -1;
    int64_t offset = 0;
  };

  void settle_storage() {
    for (int attempt = 0;; ++attempt) {
      if (attempt == 8) {
        const CopyNeeded& copy = storage_.copies.front();
        const Node& node =
            copy.node >= 0 ? graph_.nodes[static_cast<size_t>(copy.node)]
                           : graph_.producer(graph_.outputs[static_cast<size_t>(copy.index)].value);
        throw InternalError("storage does not settle in program " + request_.name, node.name);
      }
      complete_ = completion(graph_, request_.prefetch_depth);
      StorageProblem problem{graph_, complete_, {}, {}};
      for (const Slot& slot : plan_.slots) problem.external_bytes.push_back(slot.bytes);
      for (const GraphOutput& output : graph_.outputs) {
        problem.targets.push_back({static_cast<int32_t>(output.slot), false});
      }
      storage_ = assign_storage(problem);
      if (storage_.copies.empty()) return;
      graph_ = with_copies(graph_, storage_.copies);
    }
  }

  Algorithm algorithm_of(const Node& node) const {
    if (plan_.fabric.transport != Transport::kMpi) return Algorithm::kPairwise;
    if (node.op != Op::kAllGather && node.op != Op::kReduceScatter) return Algorithm::kPairwise;
    const Type& shard = graph_.type(node.op == Op::kAllGather ? node.inputs[0] : node.outputs[0]);
    return request_.collectives.of(node.op, shard.shape.elements(), shard.dtype);
  }

  Extra extra_of(const Node& node) {
    Extra extra;
    if (node.op == Op::kReduceScatter) {
      const Type& shard = graph_.type(node.outputs[0]);
      extra.bytes = reduce_scatter_receive_bytes(plan_.ranks, shard.shape.elements(), shard.dtype,
                                                 plan_.fabric.transport, algorithm_of(node));
      extra.category = Category::kCommunication;
    } else if (node.op == Op::kAllReduce) {
      extra.bytes = all_reduce_receive_bytes(
          plan_.ranks, graph_.type(node.outputs[0]).shape.elements(), plan_.fabric.transport);
      extra.category = Category::kCommunication;
    } else if (node.op == Op::kChunked) {
      extra.bytes = bodies_.placed(graph_, node, backend_of(plan_.target)).workspace_bytes;
    } else {
      const int64_t bytes = workspace_of(graph_, node, backend_of(plan_.target));
      if (bytes >= 0) extra.bytes = bytes;
    }
    return extra;
  }

  Category category_of(const Buffer& buffer) const {
    for (ValueId v : buffer.holds) {
      const Node& node = graph_.producer(v);
      if ((node.op == Op::kAllGather || node.op == Op::kSign) && node.phase != Phase::kUpdate &&
          graph_.type(v).placement == Placement::kReplicated) {
        return Category::kGatheredParameters;
      }
      const Placement placement = graph_.type(v).placement;
      if (placement == Placement::kPartial || placement == Placement::kShard) {
        return Category::kCommunication;
      }
    }
    return Category::kActivations;
  }

  void place_buffers(int64_t& lower_bound) {
    std::vector<Interval> intervals;
    std::vector<Category> categories;
    std::vector<int32_t> interval_of(storage_.buffers.size(), -1);
    for (size_t b = 0; b < storage_.buffers.size(); ++b) {
      const Buffer& buffer = storage_.buffers[b];
      if (buffer.external >= 0 || buffer.merged_into >= 0) continue;
      interval_of[b] = static_cast<int32_t>(intervals.size());
      intervals.push_back({buffer.bytes, buffer.first, buffer.last});
      categories.push_back(category_of(buffer));
    }
    extras_.resize(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      extras_[i] = extra_of(graph_.nodes[i]);
      if (extras_[i].bytes == 0) continue;
      extras_[i].interval = static_cast<int32_t>(intervals.size());
      intervals.push_back({extras_[i].bytes, static_cast<int32_t>(i), complete_[i]});
      categories.push_back(extras_[i].category);
    }
    const Placed placed = place_intervals(intervals, kArenaAlignment);
    offsets_.assign(storage_.buffers.size(), 0);
    for (size_t b = 0; b < storage_.buffers.size(); ++b) {
      const Buffer& buffer = storage_.buffers[b];
      if (buffer.external >= 0) {
        offsets_[b] = plan_.slots[static_cast<size_t>(buffer.external)].offset;
      } else if (interval_of[b] >= 0) {
        offsets_[b] = plan_.persistent_bytes + placed.offsets[static_cast<size_t>(interval_of[b])];
      }
    }
    for (Extra& extra : extras_) {
      if (extra.interval >= 0) {
        extra.offset = plan_.persistent_bytes + placed.offsets[static_cast<size_t>(extra.interval)];
      }
    }
    plan_.arena_bytes = std::max(plan_.arena_bytes, plan_.persistent_bytes + placed.bytes);
    lower_bound = std::max(lower_bound, plan_.persistent_bytes + placed.lower_bound);
    account(intervals, categories);
  }

  // Bytes alive at each list position, by category.
  void account(const std::vector<Interval>& intervals, const std::vector<Category>& categories) {
    ByCategory persistent{};
    for (const Slot& slot : plan_.slots) {
      persistent[static_cast<size_t>(plan_.values[static_cast<size_t>(slot.value)].category)] +=
          slot.bytes;
    }
    std::vector<ByCategory> change(graph_.nodes.size() + 1, ByCategory{});
    for (size_t k = 0; k < intervals.size(); ++k) {
      const auto c = static_cast<size_t>(categories[k]);
      change[static_cast<size_t>(intervals[k].first)][c] += intervals[k].bytes;
      change[static_cast<size_t>(intervals[k].last) + 1][c] -= intervals[k].bytes;
    }
    ByCategory now = persistent;
    program_.maximum = program_.at_peak = persistent;
    for (int64_t bytes : persistent) program_.live_bytes_peak += bytes;
    for (const ByCategory& step : change) {
      int64_t total = 0;
      for (size_t c = 0; c < kCategoryCount; ++c) {
        now[c] += step[c];
        total += now[c];
        program_.maximum[c] = std::max(program_.maximum[c], now[c]);
      }
      if (total > program_.live_bytes_peak) {
        program_.live_bytes_peak = total;
        program_.at_peak = now;
      }
    }
  }

  struct Tag {
    int32_t value = kUntagged;
    int64_t start = 0, rank_start = 0;
  };

  int32_t new_value(ValueId v) {
    const Location& at = storage_.locations[static_cast<size_t>(v)];
    const Buffer& buffer = storage_.buffers[static_cast<size_t>(at.buffer)];
    const Category category =
        buffer.external >= 0 ? plan_
                                   .values[static_cast<size_t>(
                                       plan_.slots[static_cast<size_t>(buffer.external)].value)]
                                   .category
                             : category_of(buffer);
    plan_.values.push_back({graph_.producer(v).name, category, graph_.type(v).bytes()});
    return static_cast<int32_t>(plan_.values.size()) - 1;
  }

  // Parts of a concat are written under its tag. The outermost come last in the graph.
  void tag_concats() {
    tags_.resize(graph_.values.size());
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& node = graph_.nodes[i];
      if (node.op != Op::kConcat) continue;
      Tag tag = tag_of(node.outputs[0]);
      for (ValueId part : node.inputs) {
        ValueId root = part;
        while (graph_.producer(root).op == Op::kView) root = graph_.producer(root).inputs[0];
        tags_[static_cast<size_t>(root)] = tag;
        tag.start += graph_.type(part).bytes();
      }
    }
  }

  Tag tag_of(ValueId v) {
    const Node& node = graph_.producer(v);
    if (node.op == Op::kState) {
      return {
          plan_.slots[static_cast<size_t>(std::get<StateAttributes>(node.attributes).slot)].value,
          0, 0};
    }
    if (node.op == Op::kView) {
      Tag tag = tag_of(node.inputs[0]);
      tag.start += std::get<ViewAttributes>(node.attributes).offset *
                   size_of(graph_.type(node.inputs[0]).dtype);
      return tag;
    }
    if (node.op == Op::kReplicate) return tag_of(node.inputs[0]);
    if (node.op == Op::kShardView) {
      Tag tag = tag_of(node.inputs[0]);
      tag.rank_start = graph_.type(v).bytes();
      return tag;
    }
    Tag& tag = tags_[static_cast<size_t>(v)];
    if (tag.value == kUntagged) tag.value = new_value(v);
    return tag;
  }

  Operand operand(ValueId v) {
    const Location& at = storage_.locations[static_cast<size_t>(v)];
    const Tag tag = tag_of(v);
    Operand o;
    o.value = tag.value;
    o.start = tag.start;
    o.rank_start = tag.rank_start;
    o.dtype = graph_.type(v).dtype;
    o.shape = graph_.type(v).shape;
    o.bytes = graph_.type(v).bytes();
    o.base = offsets_[static_cast<size_t>(at.buffer)] + at.offset;
    o.rank_stride = at.rank_stride;
    return o;
  }

  Operand scratch(const Node& node, const Extra& extra) {
    plan_.values.push_back({node.name + "/scratch", extra.category, extra.bytes});
    Operand o;
    o.value = static_cast<int32_t>(plan_.values.size()) - 1;
    o.dtype = DType::kI32;
    o.shape = Shape{extra.bytes / 4};
    o.bytes = extra.bytes;
    o.base = extra.offset;
    return o;
  }

  void emit(NodeId id) {
    const Node& node = graph_.nodes[static_cast<size_t>(id)];
    Step step = describe(graph_, node);
    for (ValueId v : node.inputs) step.inputs.push_back(operand(v));
    for (ValueId v : node.outputs) step.outputs.push_back(operand(v));
    step.algorithm = algorithm_of(node);
    step.in_place = in_place_pairs(graph_, node);
    if (node.op == Op::kAllGather || node.op == Op::kReduceScatter) step.in_place = {{0, 0}};
    const Extra& extra = extras_[static_cast<size_t>(id)];
    if (extra.bytes > 0) step.workspace = scratch(node, extra);
    for (ValueId v : node.addends) {
      step.addends.push_back(v == kNoValue ? Operand{} : operand(v));
      if (v != kNoValue) {
        step.accumulate =
            node.addend_skipped_first ? Accumulate::kUnlessFirstMicroStep : Accumulate::kAlways;
      }
    }
    for (const auto* list : {&step.inputs, &step.outputs}) {
      for (const Operand& o : *list) step.dram_bytes += o.bytes;
    }
    if (node.op == Op::kChunked) {
      step.body = static_cast<int32_t>(program_.bodies.size());
      std::get<ChunkedAttributes>(step.attributes).body = step.body;
      program_.bodies.push_back(
          instantiate_body(node, bodies_.placed(graph_, node, backend_of(plan_.target)),
                           step.inputs, step.outputs, step.workspace, plan_));
      step.dram_bytes = 0;
      for (const Step& inner : program_.bodies.back().steps) step.dram_bytes += inner.dram_bytes;
    }
    synchronise(id, step);
    program_.steps.push_back(std::move(step));
  }

  // A transfer starts after the compute step before it; compute waits for the transfers that must
  // be over by then. Streams are first in, first out, so the latest of each suffices.
  void synchronise(NodeId id, Step& step) {
    const auto index = static_cast<int32_t>(program_.steps.size());
    if (is_collective(step.op)) {
      step.stream = Stream::kCommunication;
      if (last_compute_ >= 0) step.waits.push_back(last_compute_);
      open_.push_back({complete_[static_cast<size_t>(id)], index});
      return;
    }
    int32_t latest = -1;
    std::erase_if(open_, [&](const auto& transfer) {
      if (transfer.first > id) return false;
      latest = std::max(latest, transfer.second);
      return true;
    });
    if (latest >= 0) step.waits.push_back(latest);
    last_compute_ = index;
  }

  Graph graph_;
  const PlaceRequest& request_;
  Plan& plan_;
  Program program_;
  BodyPlacer bodies_;
  Storage storage_;
  std::vector<int32_t> complete_;
  std::vector<int64_t> offsets_;
  std::vector<Extra> extras_;
  std::vector<Tag> tags_;
  std::vector<std::pair<int32_t, int32_t>> open_;  // (complete, step) of transfers in flight
  int32_t last_compute_ = -1;
};

}  // namespace

Program place(Graph graph, const PlaceRequest& request, Plan& plan, int64_t& lower_bound) {
  return Placer(std::move(graph), request, plan).run(lower_bound);
}

}  // namespace memwall
