#include "runtime/passes/storage.h"

#include <algorithm>
#include <limits>

#include "runtime/graph/ops/op_rules.h"
#include "runtime/graph/rewrite.h"

namespace memwall {
namespace {

constexpr int32_t kEnd = std::numeric_limits<int32_t>::max();

// Bytes [low, high) of a value that is no alias.
struct Range {
  ValueId root = kNoValue;
  int64_t low = 0, high = 0;
};

struct Read {
  int64_t low, high;
  int32_t position;  // when the read is over
  NodeId reader;
};

class Assigner {
 public:
  explicit Assigner(const StorageProblem& problem)
      : problem_(problem), graph_(problem.graph), reads_(graph_.values.size()) {
    storage_.locations.resize(graph_.values.size());
    storage_.accumulates.assign(graph_.nodes.size(), 0);
    for (size_t i = 0; i < problem.external_bytes.size(); ++i) {
      Buffer buffer;
      buffer.bytes = problem.external_bytes[i];
      buffer.external = static_cast<int32_t>(i);
      storage_.buffers.push_back(buffer);
    }
    rewritten_.assign(problem.external_bytes.size(), 0);
    state_of_.assign(problem.external_bytes.size(), kNoValue);
    for (const Target& target : problem.targets)
      rewritten_[static_cast<size_t>(target.external)] = 1;
  }

  Storage run() {
    collect_reads();
    for (size_t i = 0; i < graph_.nodes.size(); ++i) locate(static_cast<NodeId>(i));
    // What an output needs is known once nothing before it needs a copy any more.
    if (!storage_.copies.empty()) return std::move(storage_);
    for (size_t k = 0; k < graph_.outputs.size(); ++k) settle_output(k);
    finish();
    return std::move(storage_);
  }

 private:
  // The ranges of defining values that a value names.
  void resolve(ValueId v, int64_t low, int64_t high, std::vector<Range>& out) const {
    const Node& node = graph_.producer(v);
    switch (node.op) {
      case Op::kView: {
        const int64_t offset = std::get<ViewAttributes>(node.attributes).offset *
                               size_of(graph_.type(node.inputs[0]).dtype);
        return resolve(node.inputs[0], low + offset, high + offset, out);
      }
      case Op::kReplicate: return resolve(node.inputs[0], low, high, out);
      case Op::kShardView:  // which slice depends on the rank: count the whole
        return resolve(node.inputs[0], 0, graph_.type(node.inputs[0]).bytes(), out);
      case Op::kConcat: {
        int64_t start = 0;
        for (ValueId part : node.inputs) {
          const int64_t bytes = graph_.type(part).bytes();
          const int64_t from = std::max(low, start), to = std::min(high, start + bytes);
          if (from < to) resolve(part, from - start, to - start, out);
          start += bytes;
        }
        return;
      }
      default: out.push_back({v, low, high});
    }
  }
  std::vector<Range> ranges(ValueId v) const {
    std::vector<Range> out;
    resolve(v, 0, graph_.type(v).bytes(), out);
    return out;
  }

  void add_read(ValueId v, int32_t position, NodeId reader) {
    for (const Range& r : ranges(v)) {
      reads_[static_cast<size_t>(r.root)].push_back({r.low, r.high, position, reader});
    }
  }

  void collect_reads() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (node.op == Op::kState || node.op == Op::kOperand) {
        state_of_[static_cast<size_t>(std::get<StateAttributes>(node.attributes).slot)] =
            node.outputs[0];
      }
      if (is_alias(node.op)) continue;
      const auto id = static_cast<NodeId>(i);
      for (ValueId v : node.inputs) add_read(v, problem_.complete[i], id);
      for (ValueId v : node.addends) {
        if (v >= 0) add_read(v, problem_.complete[i], id);
      }
    }
    for (const GraphOutput& output : graph_.outputs) add_read(output.value, kEnd, -1);
  }

  // Nobody reads the range after node `id`, and `id` itself reads it once.
  bool dies_at(const Range& range, NodeId id) const {
    int own_reads = 0;
    for (const Read& read : reads_[static_cast<size_t>(range.root)]) {
      if (read.high <= range.low || range.high <= read.low) continue;
      if (read.reader == id) {
        ++own_reads;
      } else if (read.position >= id) {
        return false;
      }
    }
    return own_reads == 1;
  }

  int32_t root_buffer(int32_t buffer, int64_t& offset) const {
    while (storage_.buffers[static_cast<size_t>(buffer)].merged_into >= 0) {
      offset += storage_.buffers[static_cast<size_t>(buffer)].merged_offset;
      buffer = storage_.buffers[static_cast<size_t>(buffer)].merged_into;
    }
    return buffer;
  }
  Location location(ValueId v) const {
    Location at = storage_.locations[static_cast<size_t>(v)];
    at.buffer = root_buffer(at.buffer, at.offset);
    return at;
  }
  Buffer& buffer_of(const Location& at) { return storage_.buffers[static_cast<size_t>(at.buffer)]; }

  Location fresh_buffer(ValueId v, NodeId id) {
    Buffer buffer;
    buffer.bytes = graph_.type(v).bytes();
    buffer.first = id;
    storage_.buffers.push_back(buffer);
    return {static_cast<int32_t>(storage_.buffers.size()) - 1, 0, 0};
  }

  // Whether `out` of node `id` may take the place of `v`.
  bool may_overwrite(ValueId v, ValueId out, NodeId id) {
    if (graph_.type(v).bytes() != graph_.type(out).bytes()) return false;
    const std::vector<Range> all = ranges(v);
    for (const Range& range : all) {
      if (!dies_at(range, id)) return false;
      const Node& producer = graph_.producer(range.root);
      if (producer.op == Op::kOperand) return false;
      if (producer.op == Op::kState &&
          !rewritten_[static_cast<size_t>(std::get<StateAttributes>(producer.attributes).slot)]) {
        return false;
      }
    }
    return true;
  }

  void locate(NodeId id) {
    const Node& node = graph_.nodes[static_cast<size_t>(id)];
    switch (node.op) {
      case Op::kState:
      case Op::kOperand:
        set(node.outputs[0],
            {static_cast<int32_t>(std::get<StateAttributes>(node.attributes).slot), 0, 0});
        return;
      case Op::kView: {
        Location at = location(node.inputs[0]);
        at.offset += std::get<ViewAttributes>(node.attributes).offset *
                     size_of(graph_.type(node.inputs[0]).dtype);
        set(node.outputs[0], at);
        return;
      }
      case Op::kReplicate: set(node.outputs[0], location(node.inputs[0])); return;
      case Op::kShardView: {
        Location at = location(node.inputs[0]);
        at.rank_stride = graph_.type(node.outputs[0]).bytes();
        set(node.outputs[0], at);
        return;
      }
      case Op::kConcat: locate_concat(id); return;
      case Op::kReduceScatter: locate_scatter(id); return;
      case Op::kAllGather: locate_gather(id); return;
      default: break;
    }
    for (size_t k = 0; k < node.outputs.size(); ++k) locate_result(id, k);
  }
  void set(ValueId v, Location at) { storage_.locations[static_cast<size_t>(v)] = at; }

  void locate_result(NodeId id, size_t k) {
    const Node& node = graph_.nodes[static_cast<size_t>(id)];
    const ValueId out = node.outputs[k];
    if (k < node.addends.size() && node.addends[k] != kNoValue) {
      const ValueId addend = node.addends[k];
      if (may_overwrite(addend, out, id)) {
        set(out, location(addend));
        return;
      }
      storage_.copies.push_back({CopyNeeded::What::kAddend, id, static_cast<int32_t>(k), false});
    } else {
      for (const auto& [result, input] : in_place_pairs(graph_, node)) {
        if (static_cast<size_t>(result) != k) continue;
        if (static_cast<size_t>(input) >= node.inputs.size()) continue;
        const ValueId v = node.inputs[static_cast<size_t>(input)];
        if (!may_overwrite(v, out, id)) continue;
        set(out, location(v));
        return;
      }
    }
    set(out, fresh_buffer(out, id));
  }

  // A scatter stays inside its whole buffer where that lives on: in a slot, or to be gathered
  // again.
  void locate_scatter(NodeId id) {
    const Node& node = graph_.nodes[static_cast<size_t>(id)];
    const ValueId whole = node.inputs[0], shard = node.outputs[0];
    Location at = location(whole);
    bool gathered = false;
    for (const Read& read : reads_[static_cast<size_t>(shard)]) {
      gathered |=
          read.reader >= 0 && graph_.nodes[static_cast<size_t>(read.reader)].op == Op::kAllGather;
    }
    const bool lives_on = buffer_of(at).external >= 0 || gathered;
    if (lives_on && may_overwrite(whole, whole, id)) {
      at.rank_stride = graph_.type(shard).bytes();
      set(shard, at);
    } else {
      set(shard, fresh_buffer(shard, id));
    }
  }

  // A gather grows around a shard that lies in a whole buffer of its size already.
  void locate_gather(NodeId id) {
    const Node& node = graph_.nodes[static_cast<size_t>(id)];
    const ValueId whole = node.outputs[0];
    Location at = location(node.inputs[0]);
    if (at.rank_stride == graph_.type(node.inputs[0]).bytes() && at.offset == 0 &&
        buffer_of(at).bytes == graph_.type(whole).bytes()) {
      set(whole, {at.buffer, 0, 0});
    } else {
      set(whole, fresh_buffer(whole, id));
    }
  }

  // A buffer that only this value fills, and nothing has claimed yet.
  bool mergeable(ValueId v) {
    const Location at = location(v);
    const Buffer& buffer = buffer_of(at);
    return buffer.external < 0 && at.offset == 0 && at.rank_stride == 0 &&
           buffer.bytes == graph_.type(v).bytes();
  }
  void merge(ValueId v, const Location& into) {
    Buffer& buffer = buffer_of(location(v));
    buffer.merged_into = into.buffer;
    buffer.merged_offset = into.offset;
    Buffer& target = storage_.buffers[static_cast<size_t>(into.buffer)];
    if (target.first < 0 || buffer.first < target.first) target.first = buffer.first;
  }
  // Nobody needs the old contents of an external buffer once `v` is being written.
  bool vacated(int32_t external, int64_t low, int64_t high, ValueId v) {
    const ValueId state = state_of_[static_cast<size_t>(external)];
    if (state == kNoValue) return true;
    const int32_t first = buffer_of(location(v)).first;
    for (const Read& read : reads_[static_cast<size_t>(state)]) {
      if (read.low < high && low < read.high && read.position >= first) return false;
    }
    return true;
  }

  void locate_concat(NodeId id) {
    const Node& node = graph_.nodes[static_cast<size_t>(id)];
    const ValueId out = node.outputs[0];
    const int64_t bytes = graph_.type(out).bytes();
    Location base;  // where the parts are already, if one lies in an external buffer
    int64_t start = 0;
    for (ValueId part : node.inputs) {
      const Location at = location(part);
      if (base.buffer < 0 && buffer_of(at).external >= 0 && at.rank_stride == 0 &&
          !is_old_content(part) && rewritten_[static_cast<size_t>(buffer_of(at).external)] &&
          at.offset >= start && at.offset - start + bytes <= buffer_of(at).bytes) {
        base = {at.buffer, at.offset - start, 0};
      }
      start += graph_.type(part).bytes();
    }
    if (base.buffer < 0) base = fresh_buffer(out, id);
    start = 0;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      const ValueId part = node.inputs[k];
      const int64_t part_bytes = graph_.type(part).bytes();
      const Location wanted{base.buffer, base.offset + start, 0};
      const Location at = location(part);
      const Buffer& target = buffer_of(wanted);
      const bool there = at.buffer == wanted.buffer && at.offset == wanted.offset;
      if (!there) {
        const bool free = target.external < 0 ||
                          vacated(target.external, wanted.offset, wanted.offset + part_bytes, part);
        if (mergeable(part) && free) {
          merge(part, wanted);
        } else {
          storage_.copies.push_back({CopyNeeded::What::kInput, id, static_cast<int32_t>(k), false});
        }
      }
      start += part_bytes;
    }
    set(out, base);
  }

  bool is_old_content(ValueId v) const {
    const std::vector<Range> all = ranges(v);
    return std::any_of(all.begin(), all.end(), [&](const Range& r) {
      return graph_.producer(r.root).op == Op::kState || graph_.producer(r.root).op == Op::kOperand;
    });
  }

  // The node of the first term of the sum that ends as `v`, where each further one is added in the
  // place of the one before; -1 where something else lies between.
  NodeId first_term(ValueId v) const {
    for (;;) {
      const NodeId id = graph_.values[static_cast<size_t>(v)].node;
      const Node& node = graph_.nodes[static_cast<size_t>(id)];
      const bool sums = rules_of(node.op).accumulates && !node.dual && node.outputs[0] == v;
      if (!sums || reads_of(v) != 1) return -1;
      if (node.addends.empty() || node.addends[0] == kNoValue) return id;
      v = node.addends[0];
    }
  }

  void settle_output(size_t k) {
    const ValueId v = graph_.outputs[k].value;
    const Target target = problem_.targets[k];
    const Location at = location(v);
    const bool there = buffer_of(at).external == target.external;
    if (there && !target.accumulate) return;
    const Location into{target.external, 0, 0};
    if (target.accumulate) {
      const NodeId first = first_term(v);
      const bool natively = first >= 0 && mergeable(v) && buffer_of(location(v)).first == first;
      if (natively) {
        merge(v, into);
        storage_.accumulates[static_cast<size_t>(first)] = 1;
        return;
      }
    } else if (mergeable(v) && buffer_of(into).bytes == graph_.type(v).bytes() &&
               vacated(target.external, 0, buffer_of(into).bytes, v)) {
      merge(v, into);
      return;
    }
    storage_.copies.push_back(
        {CopyNeeded::What::kOutput, -1, static_cast<int32_t>(k), target.accumulate});
  }
  size_t reads_of(ValueId v) const {
    size_t count = 0;
    for (const Range& r : ranges(v)) count += reads_[static_cast<size_t>(r.root)].size();
    return count;
  }

  void finish() {
    for (size_t i = 0; i < graph_.values.size(); ++i) {
      const auto v = static_cast<ValueId>(i);
      storage_.locations[i] = location(v);
      Buffer& buffer = buffer_of(storage_.locations[i]);
      const NodeId id = graph_.values[i].node;
      if (is_alias(graph_.nodes[static_cast<size_t>(id)].op)) continue;
      if (buffer.first < 0 || id < buffer.first) buffer.first = id;
      buffer.last = std::max(buffer.last, problem_.complete[static_cast<size_t>(id)]);
      for (const Read& read : reads_[i]) {
        if (read.position != kEnd) buffer.last = std::max(buffer.last, read.position);
      }
      buffer.holds.push_back(v);
    }
  }

  const StorageProblem& problem_;
  const Graph& graph_;
  Storage storage_;
  std::vector<std::vector<Read>> reads_;  // by defining value
  std::vector<char> rewritten_;           // by external: the graph leaves a new value there
  std::vector<ValueId> state_of_;         // by external: the value of its old contents
};

}  // namespace

Storage assign_storage(const StorageProblem& problem) {
  return Assigner(problem).run();
}

Graph with_copies(const Graph& graph, const std::vector<CopyNeeded>& copies) {
  Graph to;
  Rewriter rewriter(graph, to);
  const auto copy_of = [&](ValueId old, const Node& reader) {
    const Scope scope{to, reader.name, reader.phase, reader.block};
    return scope.emit("copy", Op::kCopy, NoAttributes{}, {rewriter.map(old)}, graph.type(old));
  };
  size_t next = 0;  // copies are in the order of their nodes, outputs last
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto id = static_cast<NodeId>(i);
    const size_t first = next;
    std::vector<ValueId> made;
    for (; next < copies.size() && copies[next].node == id; ++next) {
      const Node& node = graph.nodes[i];
      const auto index = static_cast<size_t>(copies[next].index);
      const bool addend = copies[next].what == CopyNeeded::What::kAddend;
      made.push_back(copy_of(addend ? node.addends[index] : node.inputs[index], node));
    }
    const NodeId fresh = rewriter.copy(id);
    Node& node = to.nodes[static_cast<size_t>(fresh)];
    for (size_t k = first; k < next; ++k) {
      const auto index = static_cast<size_t>(copies[k].index);
      const bool addend = copies[k].what == CopyNeeded::What::kAddend;
      (addend ? node.addends : node.inputs)[index] = made[k - first];
    }
  }
  rewriter.finish();
  for (; next < copies.size(); ++next) {
    GraphOutput& output = to.outputs[static_cast<size_t>(copies[next].index)];
    const Node node = to.producer(output.value);
    const Scope scope{to, node.name, node.phase, node.block};
    output.value =
        scope.emit("store", Op::kCopy, NoAttributes{}, {output.value}, to.type(output.value));
  }
  return to;
}

}  // namespace memwall
