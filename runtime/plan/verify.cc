#include "runtime/plan/verify.h"

#include <algorithm>
#include <set>

#include "runtime/plan/abstract_arena.h"
#include "runtime/plan/verify_steps.h"

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
  Runner(const Plan& plan, int64_t rank)
      : plan_(plan),
        rank_(rank),
        arena_(plan.arena_bytes),
        holds_(plan.slots.size(), 0),
        was_held_(plan.slots.size(), 0) {}

  void run() {
    if (!plan_.has_program("init")) load_slots();
    std::set<std::string_view> known;
    const auto run = [&](std::string_view name) {
      known.insert(name);
      if (plan_.has_program(name)) run_program(plan_.program(name));
    };
    run("init");
    // Steps of three micro-steps and three probes where there are several, of both kinds, so that
    // every program follows every other that it may follow.
    const int64_t micro_steps = plan_.micro_steps > 1 ? 3 : 1,
                  probes = std::min<int64_t>(plan_.probes, 3);
    for (bool curvature : {true, false, false, true, true}) {
      if (!plan_.has_program(curvature ? "update_hessian" : "update")) continue;
      begin_step();
      for (const ProgramRun& r : training_step(micro_steps, probes, curvature)) {
        first_micro_ = r.micro_step == 0;
        run(r.program);
      }
    }
    for (std::string_view name : {kHessianSigns, kHessianVector}) {
      begin_step();
      for (bool first : {true, false, false}) {
        first_micro_ = first;
        run(name);
      }
    }
    for (const char* name : {"restore", "evaluate", "next_token"}) run(name);
    for (const Program& program : plan_.programs) {
      if (!known.contains(program.name))
        fail("nobody knows when program " + program.name + " runs");
    }
    for (size_t s = 0; s < plan_.slots.size(); ++s) {
      if (!was_held_[s] && !may_be_partial(plan_.slots[s])) {
        fail("no program fills slot " +
             plan_.values[static_cast<size_t>(plan_.slots[s].value)].name);
      }
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

  // Whole gradients may be left summed in this rank's shard alone.
  static bool may_be_partial(const Slot& slot) {
    return slot.kind == SlotKind::kGradient || slot.kind == SlotKind::kCurvature;
  }

  void fill_slot(size_t s) {
    const Slot& slot = plan_.slots[s];
    arena_.set({slot.offset, slot.bytes, slot.value, 0});
    holds_[s] = 1;
  }
  template <class Which>
  void empty_slots(const Which& which) {
    for (size_t s = 0; s < plan_.slots.size(); ++s) {
      const Slot& slot = plan_.slots[s];
      if (!which(slot.kind)) continue;
      arena_.set({slot.offset, slot.bytes, kUndefined, 0});
      holds_[s] = 0;
    }
  }
  // What is loaded before a plan without init runs.
  void load_slots() {
    for (size_t s = 0; s < plan_.slots.size(); ++s) {
      if (plan_.slots[s].unit >= 0) fill_slot(s);
    }
  }
  // Nothing of the step before is left but the model's state.
  void begin_step() {
    empty_slots([](SlotKind kind) {
      return kind == SlotKind::kGradient || kind == SlotKind::kCurvature ||
             kind == SlotKind::kLossSum || kind == SlotKind::kTraceSum ||
             kind == SlotKind::kScalars;
    });
  }
  // Every program gets its input anew.
  void feed(const Program& program) {
    empty_slots([](SlotKind kind) {
      return kind == SlotKind::kTokens || kind == SlotKind::kTargets ||
             kind == SlotKind::kSampleIndex || kind == SlotKind::kPosition;
    });
    for (int32_t slot : program.host_slots) {
      if (slot < 0 || slot >= static_cast<int32_t>(plan_.slots.size())) fail("no such host slot");
      fill_slot(static_cast<size_t>(slot));
    }
  }

  void run_program(const Program& program) {
    program_ = &program;
    clocks_.assign(program.steps.size(), Clock{-1, -1});
    feed(program);
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
      // Without addends: a body's result, summed over iterations.
      if (step.addends.empty()) read(step.outputs[0], iteration, "addend");
      for (const Operand& o : step.addends) {
        if (o.bytes > 0) read(o, iteration, "addend");
      }
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

  // Bytes of `result` that belong to one iteration: what the body's operands advance by.
  static int64_t slice_bytes(const Body& body, const Operand& result) {
    for (const Step& step : body.steps) {
      for (const Operand& o : step.outputs) {
        const bool part = o.start >= result.start && o.start < result.start + result.bytes;
        if (o.value == result.value && part) return o.iteration_bytes;
      }
    }
    return result.bytes;
  }
  // An iteration leaves its slice of each result whole; all do as the first one does.
  void check_slices(const Step& outer, const Body& body) const {
    for (const Operand& o : outer.outputs) {
      AbstractRange first = range_of(o, rank_);
      first.bytes = slice_bytes(body, o);
      if (!arena_.holds(first)) fail("the body does not leave its result");
    }
  }

  void run_chunked(const Program& program) {
    const Step& outer = *step_;
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
        access(inner, i);
      }
      step_ = &outer;
      if (i == 0) check_slices(outer, body);
    }
    for (const Operand& o : outer.outputs) write(o, 0, "result");
  }

  // Slots keep what nobody touched and what the program promises; all else is gone. What a slot
  // held before, it holds again.
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
      holds_[static_cast<size_t>(result.slot)] = 1;
    }
    for (size_t s = 0; s < plan_.slots.size(); ++s) {
      const Slot& slot = plan_.slots[s];
      if (!holds_[s]) continue;
      was_held_[s] = 1;
      if (may_be_partial(slot) || arena_.holds({slot.offset, slot.bytes, slot.value, 0})) continue;
      fail("slot " + plan_.values[static_cast<size_t>(slot.value)].name + " loses its contents");
    }
    arena_.set({plan_.persistent_bytes, plan_.arena_bytes - plan_.persistent_bytes, kUndefined, 0});
  }

  const Plan& plan_;
  const int64_t rank_;
  AbstractArena arena_;
  std::vector<char> holds_, was_held_;  // by slot: now; after some program
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
  verify_steps(plan);
  for (int64_t rank : std::set<int64_t>{0, std::min<int64_t>(1, plan.ranks - 1), plan.ranks - 1}) {
    Runner(plan, rank).run();
  }
}

}  // namespace memwall
