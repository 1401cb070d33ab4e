#include "runtime/plan/verify_steps.h"

#include <algorithm>
#include <optional>
#include <set>

#include "runtime/base/collective.h"

namespace memwall {
namespace {

bool has_addend(const Step& step, size_t result) {
  return result < step.addends.size() && step.addends[result].bytes > 0;
}

// Whether `inner` walks through `outer` as iterations of a body must: one slice after the other,
// all of it, at the same displacement in the arena and in the value.
bool walks(const Operand& inner, const Operand& outer, int64_t count) {
  const int64_t within = inner.start - outer.start, slices = count / inner.period;
  return inner.value == outer.value && inner.base - outer.base == within &&
         inner.rank_stride == outer.rank_stride && inner.rank_start == outer.rank_start &&
         count % inner.period == 0 && inner.iteration_bytes * slices == outer.bytes &&
         inner.iteration_start == inner.iteration_bytes && within >= 0 &&
         within + inner.bytes <= inner.iteration_bytes;
}

std::optional<size_t> walked(const Operand& inner, const std::vector<Operand>& outer,
                             int64_t count) {
  for (size_t k = 0; k < outer.size(); ++k) {
    if (walks(inner, outer[k], count)) return k;
  }
  return std::nullopt;
}

bool lies_in(const Operand& inner, const Operand& workspace) {
  return inner.base >= workspace.base &&
         inner.base + inner.bytes <= workspace.base + workspace.bytes && inner.rank_stride == 0 &&
         inner.iteration_bytes == 0 && inner.iteration_start == 0;
}

class StepVerifier {
 public:
  explicit StepVerifier(const Plan& plan) : plan_(plan), dtypes_(plan.values.size()) {
    for (const Slot& slot : plan.slots) {
      dtypes_[static_cast<size_t>(slot.value)] = slot.dtype;
      slot_values_.insert(slot.value);
    }
  }

  void run() {
    for (const Program& program : plan_.programs) {
      program_ = &program;
      for (const Step& step : program.steps) verify(step);
      for (const SlotResult& result : program.results) operand(result.where);
    }
  }

 private:
  void require(bool condition, const std::string& what) const {
    if (condition) return;
    std::string where = "program " + program_->name;
    if (step_ != nullptr) {
      where += ", step " + step_->name + " (" + std::string(op_name(step_->op)) + ")";
    }
    throw InputError("the plan is broken: " + what, where, "not a plan that can be executed");
  }
  const std::string& name(const Operand& o) const {
    return plan_.values[static_cast<size_t>(o.value)].name;
  }

  void verify(const Step& step) {
    step_ = &step;
    operands(step);
    require(is_collective(step.op) == (step.stream == Stream::kCommunication),
            "collectives, and nothing else, run on the communication stream");
    if (is_collective(step.op)) collective(step);
    accumulation(step);
    duality(step);
    if (step.op == Op::kChunked) body(step);
    step_ = nullptr;
  }

  // bytes == 0: there is none.
  void operand(const Operand& o) {
    if (o.bytes == 0) return;
    require(o.bytes == o.shape.elements() * size_of(o.dtype),
            name(o) + " has another size than its shape");
    std::optional<DType>& dtype = dtypes_[static_cast<size_t>(o.value)];
    if (!dtype) dtype = o.dtype;
    require(*dtype == o.dtype, name(o) + " is used with two dtypes");
  }
  void operands(const Step& step) {
    for (const auto* list : {&step.inputs, &step.outputs}) {
      for (const Operand& o : *list) {
        require(o.bytes > 0, name(o) + " is empty");
        operand(o);
      }
    }
    for (const Operand& o : step.addends) operand(o);
    operand(step.workspace);
  }

  void collective(const Step& step) const {
    require(step.inputs.size() >= 1 && step.outputs.size() == 1, "takes one buffer to another");
    const Operand& in = step.inputs[0];
    const Operand& out = step.outputs[0];
    require(in.dtype == out.dtype, "moves values, but does not convert them");
    int64_t receive = 0;
    if (step.op == Op::kAllGather) {
      require(out.bytes == in.bytes * plan_.ranks, "the whole is not a shard for each rank");
    } else if (step.op == Op::kReduceScatter) {
      require(in.bytes == out.bytes * plan_.ranks, "the whole is not a shard for each rank");
      receive = reduce_scatter_receive_bytes(plan_.ranks, out.shape.elements(), out.dtype,
                                             plan_.fabric.transport, step.algorithm);
    } else {
      require(in.base == out.base && in.bytes == out.bytes && out.dtype == DType::kF64,
              "sums doubles in place");
      receive = all_reduce_receive_bytes(plan_.ranks, out.shape.elements(), plan_.fabric.transport);
    }
    require(step.algorithm == Algorithm::kPairwise ||
                (step.op != Op::kAllReduce && plan_.fabric.transport == Transport::kMpi),
            "cannot go by this algorithm");
    require(step.workspace.bytes >= receive, "the workspace cannot hold what it receives");
  }

  // A dual step has a tangent for each floating-point operand and for each result, of their types.
  void duality(const Step& step) const {
    const size_t own = dual_operands(step.op);
    require(own == 0 || step.dual || step.inputs.size() == own,
            "has operands that it does not read");
    if (!step.dual) return;
    require(own > 0, "does not run on dual numbers");
    const auto alike = [](const Operand& a, const Operand& b) {
      return a.dtype == b.dtype && a.shape == b.shape;
    };
    const size_t results = step.outputs.size() / 2;
    require(step.outputs.size() == 2 * results, "a tangent for each result");
    for (size_t k = 0; k < results; ++k) {
      require(alike(step.outputs[k], step.outputs[results + k]),
              name(step.outputs[results + k]) + " differs from what it is the tangent of");
    }
    std::vector<size_t> values;  // the floating-point operands
    for (size_t k = 0; k < std::min(own, step.inputs.size()); ++k) {
      if (is_floating(step.inputs[k].dtype)) values.push_back(k);
    }
    require(own + values.size() == step.inputs.size(), "a tangent for each operand");
    for (size_t k = 0; k < values.size(); ++k) {
      require(alike(step.inputs[values[k]], step.inputs[own + k]),
              name(step.inputs[own + k]) + " differs from what it is the tangent of");
    }
    require(has_addend(step, 0) == has_addend(step, results),
            "adds to a value or to its tangent, not to both");
  }

  // What is added to lies in the result's place; what only the first micro-step overwrites comes
  // from the one before, so that it is a slot's.
  void accumulation(const Step& step) const {
    require(step.addends.empty() || step.addends.size() == step.outputs.size(),
            "an addend for each result");
    bool adds = false;
    for (size_t k = 0; k < step.addends.size(); ++k) {
      if (!has_addend(step, k)) continue;
      adds = true;
      const bool first = k == 0 || (step.dual && 2 * k == step.outputs.size());
      require(first || step.op == Op::kChunked, "only its first result can be added to");
      const Operand& from = step.addends[k];
      const Operand& to = step.outputs[k];
      require(from.base == to.base && from.rank_stride == to.rank_stride && from.bytes == to.bytes,
              "an addend is not in its result's place");
      require(
          step.accumulate != Accumulate::kUnlessFirstMicroStep || slot_values_.contains(from.value),
          "the first micro-step would drop " + name(from));
    }
    require(adds ? step.accumulate == Accumulate::kAlways ||
                       step.accumulate == Accumulate::kUnlessFirstMicroStep
                 : step.accumulate == Accumulate::kNever,
            "addends and the rule of when to add differ");
  }

  void body(const Step& outer) {
    require(outer.body >= 0 && outer.body < static_cast<int32_t>(program_->bodies.size()),
            "has no body");
    const Body& body = program_->bodies[static_cast<size_t>(outer.body)];
    const auto* attributes = std::get_if<ChunkedAttributes>(&outer.attributes);
    require(attributes != nullptr && attributes->count == body.count && body.count > 0,
            "the body runs another number of times");
    for (const Step& inner : body.steps) {
      step_ = &inner;
      require(inner.op != Op::kChunked && !is_collective(inner.op) && inner.waits.empty() &&
                  inner.stream == Stream::kCompute,
              "cannot stand in a body");
      operands(inner);
      for (const auto* list : {&inner.inputs, &inner.addends}) {
        for (const Operand& o : *list) {
          require(o.bytes == 0 || lies_in(o, outer.workspace) ||
                      walked(o, outer.inputs, body.count) || walked(o, outer.outputs, body.count),
                  name(o) + " walks through no operand of the chunked step");
        }
      }
      require(inner.workspace.bytes == 0 || lies_in(inner.workspace, outer.workspace),
              "its workspace lies outside the body's");
      duality(inner);
      for (size_t k = 0; k < inner.outputs.size(); ++k) body_result(outer, body, inner, k);
    }
    step_ = &outer;
  }

  void body_result(const Step& outer, const Body& body, const Step& inner, size_t k) const {
    const Operand& out = inner.outputs[k];
    const auto result = walked(out, outer.outputs, body.count);
    require(result || lies_in(out, outer.workspace),
            name(out) + " walks through no result of the chunked step");
    const bool own_addend = k == 0 && has_addend(inner, 0);
    const bool added = result && has_addend(outer, *result);
    const bool summed = result && (added || out.period > 1);
    // A further term: it adds to the result so far.
    const bool further = summed && own_addend && inner.addends[0].value == out.value;
    require(!summed || (k == 0 && (further || !own_addend)), "cannot be added to a result");
    if (k > 0) return;
    if (further) {
      require(inner.accumulate == Accumulate::kAlways, "is a further term, and always adds");
      return;
    }
    Accumulate expected = own_addend ? Accumulate::kAlways : Accumulate::kNever;
    if (summed && !added) expected = Accumulate::kUnlessFirstOfPeriod;
    if (summed && added) {
      expected = outer.accumulate == Accumulate::kAlways ? Accumulate::kAlways
                                                         : Accumulate::kUnlessFirstOfBoth;
    }
    require(inner.accumulate == expected, "adds to its result when it should not, or the reverse");
    require(!summed || inner.accumulate_period == out.period,
            "starts its sum anew at another period than its result's");
  }

  const Plan& plan_;
  std::vector<std::optional<DType>> dtypes_;  // by value
  std::set<int32_t> slot_values_;
  const Program* program_ = nullptr;
  const Step* step_ = nullptr;
};

}  // namespace

void verify_steps(const Plan& plan) {
  StepVerifier(plan).run();
}

}  // namespace memwall
