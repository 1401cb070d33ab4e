#include "runtime/sim/simulate.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/base/math.h"
#include "runtime/cost/op_cost.h"
#include "runtime/sim/skew.h"

namespace memwall {
namespace {

Transfer transfer_of(const Step& step, const Plan& plan) {
  Transfer out{.op = step.op, .algorithm = step.algorithm, .transport = plan.fabric.transport};
  DType dtype = DType::kF64;
  switch (step.op) {
    case Op::kAllGather:
      out.part_bytes = step.inputs[0].bytes;
      dtype = step.inputs[0].dtype;
      break;
    case Op::kReduceScatter:
      out.part_bytes = step.outputs[0].bytes;
      dtype = step.outputs[0].dtype;
      break;
    case Op::kAllReduce:
      out.part_bytes = step.inputs[0].shape.elements() * size_of(DType::kF64);
      out.algorithm = Algorithm::kPairwise;
      break;
    default: throw InternalError("not a transfer", step.name);
  }
  out.rounds = exchange_rounds(step.op, plan.fabric.transport, plan.ranks, out.part_bytes, dtype);
  return out;
}

class Walk {
 public:
  Walk(const Plan& plan, const Machine& machine)
      : plan_(plan), machine_(machine), topology_(topology_of(machine, plan.ranks)) {}

  // Adds the program's runs to `out`.
  void add(const Program& program, int64_t runs, Simulation& out) {
    ProgramTimeline timeline{.program = program.name, .runs = runs, .spans = {}, .seconds = {}};
    timeline.spans.resize(program.steps.size());
    StepSeconds& seconds = timeline.seconds;
    std::array<double, static_cast<size_t>(Stream::kCount)> stream_end{};
    for (size_t i = 0; i < program.steps.size(); ++i) {
      const Step& step = program.steps[i];
      double& free = stream_end[static_cast<size_t>(step.stream)];
      double start = free;
      for (int32_t waited : step.waits) {
        start = std::max(start, timeline.spans[static_cast<size_t>(waited)].end);
      }
      free = start + duration(program, step, runs, seconds, out);
      timeline.spans[i] = {start, free};
    }
    // A program ends with its last transfer. The bounds hold but for rounding, and then exactly.
    const double end = *std::max_element(stream_end.begin(), stream_end.end());
    seconds.no_overlap = seconds.compute + seconds.communication;
    seconds.full_overlap = std::clamp(end, seconds.compute, seconds.no_overlap);
    accumulate(seconds, runs, out.seconds);
    out.timelines.push_back(std::move(timeline));
  }

 private:
  double duration(const Program& program, const Step& step, int64_t runs, StepSeconds& seconds,
                  Simulation& out) {
    if (step.stream == Stream::kCommunication) return transfer(step, runs, seconds, out);
    if (step.op != Op::kChunked) return compute(step, 1, runs, seconds, out);
    const Body& body = program.bodies[static_cast<size_t>(step.body)];
    double sum = 0.0;
    for (const Step& inner : body.steps) sum += compute(inner, body.count, runs, seconds, out);
    return sum;
  }

  double transfer(const Step& step, int64_t runs, StepSeconds& seconds, Simulation& out) {
    const TransferCost cost = transfer_cost(machine_, topology_, transfer_of(step, plan_));
    seconds.intra += cost.intra;
    seconds.inter += cost.inter;
    seconds.latency += cost.latency;
    seconds.communication += cost.seconds();
    out.link_bytes.intra += runs * cost.intra_bytes;
    out.link_bytes.inter += runs * cost.inter_bytes;
    out.by_op[static_cast<size_t>(step.op)] += static_cast<double>(runs) * cost.seconds();
    return cost.seconds();
  }

  double compute(const Step& step, int64_t launches, int64_t runs, StepSeconds& seconds,
                 Simulation& out) {
    const OpSeconds cost = op_seconds(machine_, work_of(step, launches));
    seconds.launch += cost.launch;
    (cost.flops >= cost.dram ? seconds.flops : seconds.dram) += std::max(cost.flops, cost.dram);
    seconds.compute += cost.seconds();
    out.by_op[static_cast<size_t>(step.op)] += static_cast<double>(runs) * cost.seconds();
    return cost.seconds();
  }

  static void accumulate(const StepSeconds& program, int64_t runs, StepSeconds& out) {
    constexpr std::array kFields = {&StepSeconds::full_overlap,  &StepSeconds::no_overlap,
                                    &StepSeconds::compute,       &StepSeconds::launch,
                                    &StepSeconds::flops,         &StepSeconds::dram,
                                    &StepSeconds::communication, &StepSeconds::intra,
                                    &StepSeconds::inter,         &StepSeconds::latency};
    for (const auto field : kFields) out.*field += static_cast<double>(runs) * program.*field;
  }

  const Plan& plan_;
  const Machine& machine_;
  Topology topology_;
};

void add_host_and_skew(const Machine& machine, int64_t ranks, StepSeconds& seconds) {
  for (double* part :
       {&seconds.launch, &seconds.compute, &seconds.no_overlap, &seconds.full_overlap}) {
    *part += machine.step_seconds;
  }
  seconds.skew = machine.skew_seconds * expected_maximum(ranks);
  seconds.no_overlap += seconds.skew;
  seconds.full_overlap += seconds.skew;
}

}  // namespace

double StepSeconds::exposed_communication() const {
  return std::max(0.0, full_overlap - skew - compute);
}

OpWork work_of(const Step& step, int64_t launches) {
  const Operand* first = !step.inputs.empty()    ? &step.inputs[0]
                         : !step.outputs.empty() ? &step.outputs[0]
                                                 : nullptr;
  return {.op = step.op,
          .dtype = first != nullptr ? first->dtype : DType::kF32,
          .flops = step.flops,
          .dram_bytes = step.dram_bytes,
          .launches = launches};
}

Simulation simulate(const Plan& plan, const Machine& machine, bool curvature) {
  std::vector<std::pair<std::string_view, int64_t>> runs;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    const auto found = std::find_if(runs.begin(), runs.end(),
                                    [&](const auto& entry) { return entry.first == run.program; });
    if (found == runs.end()) {
      runs.emplace_back(run.program, 1);
    } else {
      ++found->second;
    }
  }
  Simulation out;
  Walk walk(plan, machine);
  for (const auto& [program, count] : runs) walk.add(plan.program(program), count, out);
  add_host_and_skew(machine, plan.ranks, out.seconds);
  return out;
}

Simulation simulate(const Plan& plan, const Machine& machine) {
  return simulate(plan, machine, plan.has_program("update_hessian"));
}

}  // namespace memwall
