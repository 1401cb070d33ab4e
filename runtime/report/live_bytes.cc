#include "runtime/report/live_bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace memwall {
namespace {

// Where and when one value lies in the transient part of the arena, on rank 0; ends included in
// time, not in place.
struct Extent {
  int32_t value = 0;
  int64_t begin = 0, end = 0;
  int64_t first = 0, last = 0;
};

// By step, the last list position at which it may still touch its operands: a transfer does until
// the step that waits for it, unless that comes at once.
std::vector<int64_t> completion(const Program& program) {
  const auto count = static_cast<int64_t>(program.steps.size());
  std::vector<int64_t> complete(program.steps.size());
  std::iota(complete.begin(), complete.end(), int64_t{0});
  const auto is_transfer = [&](int64_t i) {
    return program.steps[static_cast<size_t>(i)].stream == Stream::kCommunication;
  };
  for (int64_t i = 0; i < count; ++i) {
    if (!is_transfer(i)) continue;
    int64_t next = i + 1;
    while (next < count && is_transfer(next)) ++next;
    int64_t waiter = next;
    const auto waits = [&](const Step& step) {
      return std::any_of(step.waits.begin(), step.waits.end(), [&](int32_t w) { return w >= i; });
    };
    while (waiter < count &&
           (is_transfer(waiter) || !waits(program.steps[static_cast<size_t>(waiter)]))) {
      ++waiter;
    }
    if (waiter != next) complete[static_cast<size_t>(i)] = std::min(waiter, count - 1);
  }
  return complete;
}

std::vector<Extent> extents(const Plan& plan, const Program& program) {
  const std::vector<int64_t> complete = completion(program);
  std::map<std::pair<int32_t, int64_t>, Extent> found;  // by value and place
  const auto touch = [&](const Operand& o, int64_t position) {
    if (o.bytes == 0 || o.base < plan.persistent_bytes) return;
    const int64_t begin = o.base - o.start;
    const int64_t bytes = plan.values[static_cast<size_t>(o.value)].bytes;
    const int64_t end = std::max(begin + bytes, o.base + o.bytes);
    const int64_t last = complete[static_cast<size_t>(position)];
    const auto [at, is_new] =
        found.try_emplace({o.value, begin}, Extent{o.value, begin, end, position, last});
    at->second.end = std::max(at->second.end, end);
    at->second.last = std::max(at->second.last, last);
  };
  for (size_t i = 0; i < program.steps.size(); ++i) {
    const Step& step = program.steps[i];
    for (const auto* list : {&step.inputs, &step.outputs, &step.addends}) {
      for (const Operand& o : *list) touch(o, static_cast<int64_t>(i));
    }
    touch(step.workspace, static_cast<int64_t>(i));
  }
  std::vector<Extent> out;
  for (const auto& [key, extent] : found) out.push_back(extent);
  std::sort(out.begin(), out.end(), [](const Extent& a, const Extent& b) {
    return std::tie(a.first, a.begin, a.value) < std::tie(b.first, b.begin, b.value);
  });
  return out;
}

// Values that share bytes at a step belong to one buffer: that is what sharing is allowed for.
// By extent, the index of the first one of its buffer.
std::vector<size_t> buffers_of(const std::vector<Extent>& extents) {
  std::vector<size_t> parent(extents.size());
  std::iota(parent.begin(), parent.end(), size_t{0});
  const auto root = [&](size_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  std::vector<size_t> alive;
  for (size_t i = 0; i < extents.size(); ++i) {
    const Extent& mine = extents[i];
    std::erase_if(alive, [&](size_t j) { return extents[j].last < mine.first; });
    for (size_t j : alive) {
      if (extents[j].begin >= mine.end || mine.begin >= extents[j].end) continue;
      const size_t a = root(i), b = root(j);
      parent[std::max(a, b)] = std::min(a, b);
    }
    alive.push_back(i);
  }
  for (size_t i = 0; i < parent.size(); ++i) parent[i] = root(i);
  return parent;
}

struct Buffer {
  int64_t begin = 0, end = 0, first = 0, last = 0;
  std::vector<Extent> values;
  int64_t bytes() const { return end - begin; }
};

std::vector<Buffer> buffers(const Plan& plan, const Program& program) {
  const std::vector<Extent> all = extents(plan, program);
  const std::vector<size_t> owner = buffers_of(all);
  std::map<size_t, Buffer> found;
  for (size_t i = 0; i < all.size(); ++i) {
    const Extent& e = all[i];
    const auto [at, is_new] =
        found.try_emplace(owner[i], Buffer{e.begin, e.end, e.first, e.last, {}});
    Buffer& b = at->second;
    b.begin = std::min(b.begin, e.begin);
    b.end = std::max(b.end, e.end);
    b.first = std::min(b.first, e.first);
    b.last = std::max(b.last, e.last);
    b.values.push_back(e);
  }
  std::vector<Buffer> out;
  for (auto& [key, buffer] : found) out.push_back(std::move(buffer));
  return out;
}

int64_t sum(const ByCategory& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
}

ByCategory persistent_bytes(const Plan& plan) {
  ByCategory out{};
  for (const Slot& slot : plan.slots) {
    out[static_cast<size_t>(plan.values[static_cast<size_t>(slot.value)].category)] += slot.bytes;
  }
  return out;
}

// All slots of a kind are one holder: a model has some for every block.
void add_slots(const Plan& plan, int64_t positions, std::vector<Holder>& out) {
  std::map<std::pair<SlotKind, bool>, std::pair<Holder, int64_t>> found;
  for (const Slot& slot : plan.slots) {
    auto& [holder, count] = found[{slot.kind, slot.sharded}];
    holder.category = plan.values[static_cast<size_t>(slot.value)].category;
    holder.bytes += slot.bytes;
    ++count;
  }
  for (auto& [key, entry] : found) {
    auto& [holder, count] = entry;
    holder.name = std::string(name_of(key.first));
    if (count > 1) holder.name += fmt::format(", {} units", count);
    if (key.second) holder.name += ", this rank's shards";
    holder.persistent = true;
    holder.last = positions - 1;
    out.push_back(std::move(holder));
  }
}

// Who is alive at `position` of the program whose first list position is `offset`.
void add_buffers(const Plan& plan, const std::vector<Buffer>& buffers, int64_t position,
                 int64_t offset, std::vector<Holder>& out) {
  for (const Buffer& buffer : buffers) {
    if (position < buffer.first || buffer.last < position) continue;
    const Extent* largest = nullptr;
    for (const Extent& e : buffer.values) {
      if (position < e.first || e.last < position) continue;
      if (largest == nullptr || e.end - e.begin > largest->end - largest->begin) largest = &e;
    }
    if (largest == nullptr) largest = &buffer.values.front();  // between two of its values
    const PlanValue& value = plan.values[static_cast<size_t>(largest->value)];
    out.push_back({value.name, value.category, buffer.bytes(), false, offset + buffer.first,
                   offset + buffer.last});
  }
}

}  // namespace

LiveBytes live_bytes(const Plan& plan) {
  const bool curvature = plan.has_program("update_hessian");
  LiveBytes out;
  const ByCategory persistent = persistent_bytes(plan);
  std::vector<Buffer> at_peak;  // of the program with the peak
  int64_t peak_program = 0;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    const auto known = std::find_if(out.programs.begin(), out.programs.end(),
                                    [&](const LiveProgram& p) { return p.name == run.program; });
    if (known != out.programs.end()) {
      ++known->runs;
      continue;
    }
    const Program& program = plan.program(run.program);
    const auto first = static_cast<int64_t>(out.bytes.size());
    LiveProgram live;
    live.name = program.name;
    live.first = first;
    live.steps = static_cast<int64_t>(program.steps.size());
    const std::vector<Buffer> all = buffers(plan, program);
    std::vector<ByCategory> now(program.steps.size(), persistent);
    for (const Buffer& b : all) {
      const Category category = plan.values[static_cast<size_t>(b.values[0].value)].category;
      for (int64_t i = b.first; i <= b.last; ++i) {
        now[static_cast<size_t>(i)][static_cast<size_t>(category)] += b.bytes();
      }
    }
    for (size_t i = 0; i < now.size(); ++i) {
      out.bytes.push_back(now[i]);
      out.steps.push_back(
          fmt::format("{} ({})", program.steps[i].name, op_name(program.steps[i].op)));
      live.peak_bytes = std::max(live.peak_bytes, sum(now[i]));
      if (program.steps[i].backward && live.backward < 0)
        live.backward = first + static_cast<int64_t>(i);
      if (sum(now[i]) <= out.peak_bytes) continue;
      out.peak_bytes = sum(now[i]);
      out.peak_position = first + static_cast<int64_t>(i);
      peak_program = first;
      at_peak = all;
    }
    out.programs.push_back(std::move(live));
  }
  add_slots(plan, static_cast<int64_t>(out.bytes.size()), out.holders);
  add_buffers(plan, at_peak, out.peak_position - peak_program, peak_program, out.holders);
  std::stable_sort(out.holders.begin(), out.holders.end(),
                   [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
  return out;
}

}  // namespace memwall
