#include "runtime/plan/verify.h"

#include <algorithm>
#include <set>

#include "runtime/plan/abstract_arena.h"

namespace memwall {
namespace {

AbstractRange range_of(const Operand& o, int64_t rank, int64_t iteration = 0) {
  const int64_t slice = iteration / o.period;
  return {o.base + rank * o.rank_stride + slice * o.iteration_bytes, o.bytes, o.value,
          o.start + rank * o.rank_start + slice * o.iteration_start};
}

bool overlap(const AbstractRange& a, const AbstractRange& b) {
  return a.bytes > 0 && b.bytes > 0 && a.begin < b.begin + b.bytes && b.begin < a.begin + a.bytes;
}

class Runner {
 public:
  Runner(const Plan& plan, int64_t rank) : plan_(plan), rank_(rank), arena_(plan.arena_bytes) {}

  void run() {
    if (!plan_.has_program("init")) load_slots();
    // Two steps of at least three micro-steps where they accumulate, so that every program follows
    // every other that it may follow.
    for (const char* name : {"init", "micro", "micro", "last_micro", "update", "micro", "micro",
                             "last_micro", "update", "evaluate", "next_token"}) {
      if (!plan_.has_program(name)) continue;
      run_program(plan_.program(name));
      first_micro_ = std::string_view(name) != "micro";
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    std::string where = "rank " + std::to_string(rank_);
    if (program_ != nullptr) where += ", program " + program_->name;
    if (step_ != nullptr) {
      where += ", step " + std::to_string(index_) + " " + step_->name + " (" +
               std::string(op_name(step_->op)) + ")";
    }
    throw InputError("the plan is broken: " + what, where, "not a plan that can be executed");
  }
  void require(const std::string& problem, const Operand& o, const char* role) const {
    if (problem.empty()) return;
    fail(std::string(role) + " " + plan_.values[static_cast<size_t>(o.value)].name + " " + problem);
  }

  // What is loaded before a plan without init runs.
  void load_slots() {
    for (const Slot& slot : plan_.slots) {
      if (slot.unit >= 0) arena_.set({slot.offset, slot.bytes, slot.value, 0});
    }
  }

  void run_program(const Program& program) {
    program_ = &program;
    clocks_.assign(program.steps.size(), Clock{-1, -1});
    for (int32_t slot : program.host_slots) {
      if (slot < 0 || slot >= static_cast<int32_t>(plan_.slots.size())) fail("no such host slot");
      const Slot& s = plan_.slots[static_cast<size_t>(slot)];
      arena_.set({s.offset, s.bytes, s.value, 0});
    }
    std::array<int32_t, kStreams> last{-1, -1};
    for (size_t i = 0; i < program.steps.size(); ++i) {
      step_ = &program.steps[i];
      index_ = static_cast<int32_t>(i);
      stream_ = static_cast<size_t>(step_->stream);
      start_clock(last);
      if (step_->op == Op::kChunked) {
        run_chunked(program);
      } else {
        access(*step_, 0);
      }
      clocks_[i][stream_] = index_;
      last[stream_] = index_;
    }
    step_ = nullptr;
    arena_.settle();
    hand_over(program);
    program_ = nullptr;
  }

  // What is complete when the step starts: all before it on its stream, and what it waits for.
  void start_clock(const std::array<int32_t, kStreams>& last) {
    Clock& clock = clocks_[static_cast<size_t>(index_)];
    const auto join = [&](int32_t step) {
      const Clock& other = clocks_[static_cast<size_t>(step)];
      for (size_t s = 0; s < kStreams; ++s) clock[s] = std::max(clock[s], other[s]);
    };
    if (last[stream_] >= 0) join(last[stream_]);
    for (int32_t waited : step_->waits) {
      if (waited < 0 || waited >= index_) fail("waits for a step that is not before it");
      join(waited);
    }
  }
  const Clock& clock() const { return clocks_[static_cast<size_t>(index_)]; }

  // A transfer's buffers overlap where the shard is this rank's slice of the whole.
  bool slice_in_place(const Step& step, const AbstractRange& in, const AbstractRange& out) const {
    if (step.op == Op::kAllGather) {
      return out.bytes == in.bytes * plan_.ranks && in.begin == out.begin + rank_ * in.bytes;
    }
    if (step.op == Op::kReduceScatter) {
      return in.bytes == out.bytes * plan_.ranks && out.begin == in.begin + rank_ * out.bytes;
    }
    return in.begin == out.begin && in.bytes == out.bytes;
  }

  void check_overlaps(const Step& step, int64_t iteration) const {
    std::vector<AbstractRange> ins, outs;
    for (const Operand& o : step.inputs) ins.push_back(range_of(o, rank_, iteration));
    for (const Operand& o : step.outputs) outs.push_back(range_of(o, rank_, iteration));
    const AbstractRange scratch = range_of(step.workspace, rank_, iteration);
    for (size_t k = 0; k < outs.size(); ++k) {
      for (size_t j = 0; j < ins.size(); ++j) {
        if (!overlap(outs[k], ins[j])) continue;
        const std::pair<int32_t, int32_t> pair{static_cast<int32_t>(k), static_cast<int32_t>(j)};
        const bool designated =
            std::find(step.in_place.begin(), step.in_place.end(), pair) != step.in_place.end();
        if (!designated || !slice_in_place(step, ins[j], outs[k])) {
          fail("result " + std::to_string(k) + " overlaps input " + std::to_string(j));
        }
      }
      for (size_t j = 0; j < k; ++j) {
        if (overlap(outs[k], outs[j])) fail("two results overlap");
      }
      if (overlap(outs[k], scratch)) fail("a result overlaps the workspace");
    }
    for (const AbstractRange& in : ins) {
      if (overlap(in, scratch)) fail("an input overlaps the workspace");
    }
  }

  bool overwrites(const Step& step, int64_t iteration) const {
    const bool first_of_period = iteration % step.accumulate_period == 0;
    switch (step.accumulate) {
      case Accumulate::kNever: return true;
      case Accumulate::kAlways: return false;
      case Accumulate::kUnlessFirstMicroStep: return first_micro_;
      case Accumulate::kUnlessFirstOfPeriod: return first_of_period;
      case Accumulate::kUnlessFirstOfBoth: return first_of_period && first_micro_;
    }
    return true;
  }

  void read(const Operand& o, int64_t iteration, const char* role) {
    require(arena_.read(range_of(o, rank_, iteration), stream_, index_, clock()), o, role);
  }
  void write(const Operand& o, int64_t iteration, const char* role) {
    require(arena_.write(range_of(o, rank_, iteration), stream_, index_, clock()), o, role);
  }

  void access(const Step& step, int64_t iteration) {
    check_overlaps(step, iteration);
    for (const Operand& o : step.inputs) read(o, iteration, "input");
    if (!overwrites(step, iteration)) {
      const bool into_result = step.addends.empty();  // a body's result, summed over iterations
      if (step.outputs.empty()) fail("accumulates into nothing");
      const Operand& target = into_result ? step.outputs[0] : step.addends[0];
      const AbstractRange a = range_of(target, rank_, iteration);
      const AbstractRange b = range_of(step.outputs[0], rank_, iteration);
      if (a.begin != b.begin || a.bytes != b.bytes) fail("the addend is not in the result's place");
      read(target, iteration, "addend");
    }
    if (step.workspace.bytes > 0) write(step.workspace, iteration, "workspace");
    for (const Operand& o : step.outputs) write(o, iteration, "result");
  }

  // Iterations that see every kind of slice: the first two, and the last slice of each period from
  // its first to its last iteration.
  std::set<int64_t> sampled_iterations(const Body& body) const {
    std::set<int64_t> out{0, body.count - 1};
    if (body.count > 1) out.insert(1);
    for (const Step& step : body.steps) {
      for (const auto* list : {&step.inputs, &step.outputs}) {
        for (const Operand& o : *list) out.insert(std::max<int64_t>(0, body.count - o.period));
      }
    }
    return out;
  }

  void run_chunked(const Program& program) {
    const Step& outer = *step_;
    if (outer.body < 0 || outer.body >= static_cast<int32_t>(program.bodies.size())) {
      fail("has no body");
    }
    const Body& body = program.bodies[static_cast<size_t>(outer.body)];
    check_overlaps(outer, 0);
    for (const Operand& o : outer.inputs) read(o, 0, "input");
    for (size_t k = 0; k < outer.outputs.size(); ++k) {
      const bool added = k < outer.addends.size() && outer.addends[k].bytes > 0;
      const bool skipped = outer.accumulate == Accumulate::kUnlessFirstMicroStep && first_micro_;
      AbstractRange result = range_of(outer.outputs[k], rank_);
      if (added && !skipped) {
        read(outer.addends[k], 0, "addend");
      } else {
        result.value = kUndefined;
      }
      require(arena_.write(result, stream_, index_, clock()), outer.outputs[k], "result");
    }
    for (int64_t i : sampled_iterations(body)) {
      AbstractRange scratch = range_of(outer.workspace, rank_);
      scratch.value = kUndefined;
      require(arena_.write(scratch, stream_, index_, clock()), outer.workspace, "workspace");
      for (const Step& inner : body.steps) {
        step_ = &inner;
        if (inner.op == Op::kChunked || !inner.waits.empty()) fail("cannot stand in a body");
        access(inner, i);
      }
    }
    step_ = &outer;
    for (const Operand& o : outer.outputs) {
      const int64_t probe = std::min<int64_t>(o.bytes, 1);  // the sampled slices were written whole
      const AbstractRange first{range_of(o, rank_).begin, probe, o.value, range_of(o, rank_).start};
      if (!arena_.holds(first)) fail("the body does not leave its result");
      write(o, 0, "result");
    }
  }

  // Slots keep what nobody touched and what the program promises; all else is gone.
  void hand_over(const Program& program) {
    for (const SlotResult& result : program.results) {
      const Slot& slot = plan_.slots[static_cast<size_t>(result.slot)];
      const AbstractRange where = range_of(result.where, rank_);
      if (where.begin < slot.offset || where.begin + where.bytes > slot.offset + slot.bytes) {
        fail("a result lies outside its slot");
      }
      if (!arena_.holds(where)) {
        fail("slot " + plan_.values[static_cast<size_t>(slot.value)].name +
             " does not hold its result at the end");
      }
      arena_.set({where.begin, where.bytes, slot.value, where.begin - slot.offset});
    }
    arena_.set({plan_.persistent_bytes, plan_.arena_bytes - plan_.persistent_bytes, kUndefined, 0});
  }

  const Plan& plan_;
  const int64_t rank_;
  AbstractArena arena_;
  std::vector<Clock> clocks_;
  const Program* program_ = nullptr;
  const Step* step_ = nullptr;
  int32_t index_ = 0;
  size_t stream_ = 0;
  bool first_micro_ = true;
};

void check_slots(const Plan& plan) {
  int64_t end = 0;
  for (const Slot& slot : plan.slots) {
    if (slot.offset < end || slot.offset + slot.bytes > plan.persistent_bytes) {
      throw InputError("the plan is broken: two slots overlap, or one leaves the arena",
                       plan.values[static_cast<size_t>(slot.value)].name);
    }
    end = slot.offset + slot.bytes;
  }
  if (plan.persistent_bytes > plan.arena_bytes) {
    throw InputError("the plan is broken: its slots do not fit its arena");
  }
}

}  // namespace

void verify_plan(const Plan& plan) {
  check_slots(plan);
  for (int64_t rank : std::set<int64_t>{0, std::min<int64_t>(1, plan.ranks - 1), plan.ranks - 1}) {
    Runner(plan, rank).run();
  }
}

}  // namespace memwall
