// Writing a plan as text.
#include <fmt/format.h>

#include "runtime/plan/plan.h"
#include "runtime/plan/record.h"

namespace memwall {
namespace {

std::string joined(const auto& list, auto text_of) {
  std::string out;
  for (const auto& item : list) {
    if (!out.empty()) out += ',';
    out += text_of(item);
  }
  return out.empty() ? "-" : out;
}

std::string shape_text(const Shape& shape) {
  std::string out;
  for (int i = 0; i < shape.rank(); ++i) out += (i ? "x" : "") + std::to_string(shape[i]);
  return out.empty() ? "-" : out;
}

void write_operand(std::string& out, std::string_view keyword, const Operand& o) {
  RecordWriter w(out, keyword);
  w("value", int64_t{o.value});
  w("dtype", name_of(o.dtype));
  w("shape", shape_text(o.shape));
  w("bytes", o.bytes);
  w("base", o.base);
  w("rank_stride", o.rank_stride);
  w("start", o.start);
  w("rank_start", o.rank_start);
  w("period", o.period);
  w("iteration_bytes", o.iteration_bytes);
  w("iteration_start", o.iteration_start);
}

void write_step(std::string& out, const Step& step) {
  {
    RecordWriter w(out, "step");
    w("name", step.name);
    w("op", op_name(step.op));
    w("stream", static_cast<int64_t>(step.stream));
    w("algorithm", static_cast<int64_t>(step.algorithm));
    w("backward", int64_t{step.backward});
    w("recomputed", int64_t{step.recomputed});
    w("tangent", int64_t{step.tangent});
    w("dual", int64_t{step.dual});
    w("block", int64_t{step.block});
    w("accumulate", static_cast<int64_t>(step.accumulate));
    w("accumulate_period", step.accumulate_period);
    w("in_place", joined(step.in_place, [](const auto& p) {
        return std::to_string(p.first) + ":" + std::to_string(p.second);
      }));
    w("waits", joined(step.waits, [](int32_t s) { return std::to_string(s); }));
    w("body", int64_t{step.body});
    w("flops", step.flops);
    w("dram_bytes", step.dram_bytes);
  }
  {
    RecordWriter w(out, "attributes");
    w("kind", static_cast<int64_t>(step.attributes.index()));
    std::visit([&](auto attributes) { attributes.fields(w); }, step.attributes);
  }
  for (const Operand& o : step.inputs) write_operand(out, "in", o);
  for (const Operand& o : step.outputs) write_operand(out, "out", o);
  for (const Operand& o : step.addends) write_operand(out, "addend", o);
  if (step.workspace.bytes > 0) write_operand(out, "workspace", step.workspace);
}

void write_categories(RecordWriter& w, std::string_view prefix, const ByCategory& bytes) {
  for (size_t c = 0; c < kCategoryCount; ++c) {
    w(fmt::format("{}.{}", prefix, name_of(static_cast<Category>(c))), bytes[c]);
  }
}

void write_program(std::string& out, const Program& program) {
  {
    RecordWriter w(out, "program");
    w("name", program.name);
    w("host_slots", joined(program.host_slots, [](int32_t s) { return std::to_string(s); }));
    w("live_bytes_peak", program.live_bytes_peak);
    write_categories(w, "at_peak", program.at_peak);
    write_categories(w, "maximum", program.maximum);
  }
  for (const Body& body : program.bodies) {
    { RecordWriter(out, "body")("count", body.count); }
    for (const Step& step : body.steps) write_step(out, step);
  }
  out += "steps\n";
  for (const Step& step : program.steps) write_step(out, step);
  for (const SlotResult& result : program.results) {
    { RecordWriter(out, "result")("slot", int64_t{result.slot}); }
    write_operand(out, "where", result.where);
  }
}

void write_traffic(RecordWriter& w, std::string_view name, const PlannedTraffic& t) {
  w(fmt::format("{}.calls", name), t.calls);
  w(fmt::format("{}.payload_bytes", name), t.payload_bytes);
  w(fmt::format("{}.wire_bytes", name), t.wire_bytes);
}

void write_step_totals(std::string& out, std::string_view record, const StepTotals& t) {
  RecordWriter w(out, record);
  write_traffic(w, "all_gather", t.all_gather);
  write_traffic(w, "reduce_scatter", t.reduce_scatter);
  write_traffic(w, "all_reduce", t.all_reduce);
  w("model_flops", t.model_flops);
  w("recomputed_flops", t.recomputed_flops);
  w("tangent_flops", t.tangent_flops);
  w("dram_bytes", t.dram_bytes);
}

void write_totals(std::string& out, const Totals& t) {
  write_step_totals(out, "step_totals", t);
  write_step_totals(out, "between_totals", t.between);
  RecordWriter w(out, "totals");
  w("padding_bytes", t.padding_bytes);
  w("lower_bound", t.lower_bound);
  write_categories(w, "at_peak", t.at_peak);
  write_categories(w, "maximum", t.maximum);
}

}  // namespace

std::string dump_plan(const Plan& plan) {
  std::string out;
  out += kPlanHeader;
  out += '\n';
  {
    RecordWriter w(out, "plan");
    w("ranks", plan.ranks);
    w("micro_steps", plan.micro_steps);
    w("probes", plan.probes);
    w("zero_stage", plan.zero_stage);
    w("target", plan.target);
    w("transport", name_of(plan.fabric.transport));
    w("window_ranks", plan.fabric.window_ranks);
    w("page_bytes", plan.page_bytes);
    w("persistent_bytes", plan.persistent_bytes);
    w("arena_bytes", plan.arena_bytes);
    w("parameters", plan.parameters);
  }
  for (const Unit& unit : plan.units) {
    {
      RecordWriter w(out, "unit");
      w("name", unit.name);
      w("parameters", unit.parameters);
      w("padded", unit.padded);
    }
    for (const Segment& s : unit.segments) {
      RecordWriter w(out, "segment");
      w("name", s.name);
      w("shape", shape_text(s.shape));
      w("offset", s.offset);
      w("decay", int64_t{s.decay});
      w("init", static_cast<int64_t>(s.init));
      w("init_value", s.init_value);
      w("index", int64_t{s.index});
    }
  }
  for (const PlanValue& value : plan.values) {
    RecordWriter w(out, "value");
    w("name", value.name);
    w("category", static_cast<int64_t>(value.category));
    w("bytes", value.bytes);
  }
  for (const Slot& slot : plan.slots) {
    RecordWriter w(out, "slot");
    w("kind", static_cast<int64_t>(slot.kind));
    w("unit", slot.unit);
    w("sharded", int64_t{slot.sharded});
    w("dtype", name_of(slot.dtype));
    w("shape", shape_text(slot.shape));
    w("offset", slot.offset);
    w("bytes", slot.bytes);
    w("value", int64_t{slot.value});
  }
  for (const Program& program : plan.programs) write_program(out, program);
  write_totals(out, plan.totals);
  return out;
}

}  // namespace memwall
