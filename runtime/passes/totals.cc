#include "runtime/passes/totals.h"

#include "runtime/base/collective.h"

namespace memwall {
namespace {

void count_transfer(const Step& step, int64_t times, int64_t ranks, Totals& totals) {
  if (ranks == 1) return;
  const auto count = [&](PlannedTraffic& traffic, int64_t payload, int64_t wire) {
    traffic.calls += times;
    traffic.payload_bytes += times * payload;
    traffic.wire_bytes += times * wire;
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
    int64_t times = 0;
    if (program.name == "micro") times = plan.micro_steps - 1;
    if (program.name == "last_micro" || program.name == "update") times = 1;
    for (const Step& step : program.steps) {
      count_transfer(step, times, plan.ranks, totals);
      totals.dram_bytes += times * step.dram_bytes;
      if (step.op == Op::kChunked) {
        for (const Step& inner : program.bodies[static_cast<size_t>(step.body)].steps) {
          if (inner.recomputed) totals.recomputed_flops += times * inner.flops;
        }
      } else if (step.recomputed) {
        totals.recomputed_flops += times * step.flops;
      }
    }
  }
  for (const Slot& slot : plan.slots) {
    if (slot.unit < 0) continue;
    const Unit& unit = plan.units[static_cast<size_t>(slot.unit)];
    const int64_t padding = unit.padded - unit.parameters;
    totals.padding_bytes += padding * size_of(slot.dtype) / (slot.sharded ? plan.ranks : 1);
  }
  totals.model_flops = model.flops(model.batch() * model.time() * plan.micro_steps);
}

}  // namespace memwall
