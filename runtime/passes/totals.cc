#include "runtime/passes/totals.h"

#include "runtime/base/collective.h"

namespace memwall {
namespace {

void count_transfer(const Step& step, int64_t ranks, StepTotals& totals) {
  if (ranks == 1) return;
  const auto count = [&](PlannedTraffic& traffic, int64_t payload, int64_t wire) {
    traffic.calls += 1;
    traffic.payload_bytes += payload;
    traffic.wire_bytes += wire;
  };
  const int64_t in = step.inputs.empty() ? 0 : step.inputs[0].bytes;
  const int64_t out = step.outputs.empty() ? 0 : step.outputs[0].bytes;
  if (step.op == Op::kAllGather) count(totals.all_gather, out, all_gather_wire_bytes(ranks, in));
  if (step.op == Op::kReduceScatter) {
    count(totals.reduce_scatter, in, reduce_scatter_wire_bytes(ranks, out));
  }
  if (step.op == Op::kAllReduce) {
    count(totals.all_reduce, in, all_reduce_wire_bytes(ranks, step.inputs[0].shape.elements()));
  }
}

// What a step that recomputes does of tangents counts as a tangent's.
// So does all of a further probe, which the step would not do without curvature.
void count_flops(const Step& step, int64_t probe, StepTotals& totals) {
  const bool whole = step.tangent || probe > 0;
  const int64_t tangent = whole ? step.flops : step.dual ? step.flops / 3 * 2 : 0;
  totals.tangent_flops += tangent;
  if (step.recomputed) totals.recomputed_flops += step.flops - tangent;
}

StepTotals step_totals(const Plan& plan, int64_t model_flops, bool curvature) {
  StepTotals totals;
  totals.model_flops = model_flops;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    const Program& program = plan.program(run.program);
    for (const Step& step : program.steps) {
      count_transfer(step, plan.ranks, totals);
      totals.dram_bytes += step.dram_bytes;
      if (step.op != Op::kChunked) {
        count_flops(step, run.probe, totals);
        continue;
      }
      for (const Step& inner : program.bodies[static_cast<size_t>(step.body)].steps) {
        count_flops(inner, run.probe, totals);
      }
    }
  }
  return totals;
}

}  // namespace

void total(Plan& plan, const Model& model, int64_t lower_bound) {
  Totals& totals = plan.totals;
  totals.lower_bound = lower_bound;
  int64_t peak = 0;
  for (const Program& program : plan.programs) {
    if (program.live_bytes_peak > peak) {
      peak = program.live_bytes_peak;
      totals.at_peak = program.at_peak;
    }
    for (size_t c = 0; c < kCategoryCount; ++c) {
      totals.maximum[c] = std::max(totals.maximum[c], program.maximum[c]);
    }
  }
  for (const Slot& slot : plan.slots) {
    if (slot.unit < 0) continue;
    const Unit& unit = plan.units[static_cast<size_t>(slot.unit)];
    const int64_t padding = unit.padded - unit.parameters;
    totals.padding_bytes += padding * size_of(slot.dtype) / (slot.sharded ? plan.ranks : 1);
  }
  const int64_t flops = model.flops(model.batch() * model.time() * plan.micro_steps);
  const bool measures = plan.has_program("update_hessian");
  if (plan.has_program("update")) totals.between = step_totals(plan, flops, false);
  if (measures) static_cast<StepTotals&>(totals) = step_totals(plan, flops, true);
  if (!measures) static_cast<StepTotals&>(totals) = totals.between;
  if (!plan.has_program("update")) totals.between = totals;
  totals.model_flops = totals.between.model_flops = flops;
}

}  // namespace memwall
