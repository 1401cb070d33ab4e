#include "runtime/cli/plan_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>

#include "runtime/base/hash.h"
#include "runtime/cli/machine.h"
#include "runtime/cli/tables.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

std::string facts(const Plan& plan, const PlanTitle& title) {
  const GptSpec& m = title.model;
  const int64_t sequences = m.batch * plan.micro_steps;
  TextTable table({"plan", fmt::format("{}, {}", title.name, hash_hex(plan_hash(plan)))});
  const auto fact = [&](const std::string& name, const std::string& value) {
    table.add({name, value});
  };
  fact("model", fmt::format("GPT-2, {} layers, {} heads, width {}, context {}, vocabulary {}",
                            m.layers, m.heads, m.hidden, m.context, m.vocabulary));
  fact("parameters", fmt::format("{} in {}", count_text(plan.parameters), name_of(m.dtype)));
  fact("ranks", fmt::format("{}, ZeRO stage {}, for {}", plan.ranks, plan.zero_stage, plan.target));
  if (plan.ranks > 1) fact("transport", std::string(name_of(plan.fabric.transport)));
  fact("step", fmt::format("{} micro-step{} of {} x {} tokens a rank, {} tokens over all ranks",
                           plan.micro_steps, plan.micro_steps == 1 ? "" : "s", m.batch, m.time,
                           count_text(sequences * m.time * plan.ranks)));
  return table.text(TextTable::Align::kLeft);
}

// Some steps measure curvature, and others do not.
bool has_two_kinds(const Plan& plan) {
  return plan.has_program("update_hessian") && plan.has_program("update");
}

std::string memory(const Plan& plan, int64_t window_rounding_bytes) {
  const Totals& t = plan.totals;
  TextTable table({"memory, a rank", "at the peak", "maximum"});
  for (size_t c = 0; c < kCategoryCount; ++c) {
    table.add({std::string(name_of(static_cast<Category>(c))), bytes_text(t.at_peak[c]),
               bytes_text(t.maximum[c])});
  }
  const int64_t live = std::accumulate(t.at_peak.begin(), t.at_peak.end(), int64_t{0});
  table.add({"together", bytes_text(live)});
  table.add({"arena", bytes_text(plan.arena_bytes)});
  if (window_rounding_bytes > 0) {
    table.add({"its rounding as a symmetric window, at most", bytes_text(window_rounding_bytes)});
  }
  const int64_t windows = window_bytes_per_rank(plan.fabric.window_ranks);
  if (windows > 0) table.add({"window of shared memory", bytes_text(windows)});
  table.add({"lower bound", bytes_text(t.lower_bound)});
  table.add({"padding", bytes_text(t.padding_bytes)});
  if (plan.has_program("update_hessian")) {
    table.add({"sums or averages of z * (H z), in gradients", bytes_text(hessian_bytes(plan))});
  }
  return table.text();
}

std::string traffic(const Plan& plan) {
  TextTable table({"traffic, a rank and step", "calls", "payload", "sent"});
  const auto row = [&](const std::string& name, const PlannedTraffic& t) {
    table.add({name, count_text(t.calls), bytes_text(t.payload_bytes), bytes_text(t.wire_bytes)});
  };
  const auto rows = [&](const StepTotals& t, const std::string& suffix) {
    row("all_gather" + suffix, t.all_gather);
    row("reduce_scatter" + suffix, t.reduce_scatter);
    row("all_reduce" + suffix, t.all_reduce);
  };
  rows(plan.totals, "");
  if (has_two_kinds(plan)) rows(plan.totals.between, ", without curvature");
  return table.text();
}

std::string work(const Plan& plan, const PlanTitle& title) {
  const Totals& t = plan.totals;
  const auto flops = [](int64_t count) { return amount_text(static_cast<double>(count)); };
  TextTable table({"work, a rank and step", ""});
  table.add({"model FLOPs", flops(t.model_flops)});
  table.add({"recomputed FLOPs", flops(t.recomputed_flops)});
  table.add({"tangent FLOPs", flops(t.tangent_flops)});
  if (has_two_kinds(plan)) {
    table.add({"of a step without curvature: recomputed FLOPs", flops(t.between.recomputed_flops)});
  }
  table.add({"bytes to and from memory", bytes_text(t.dram_bytes)});
  table.add({fmt::format("model FLOPs of the run ({} steps)", count_text(title.steps)),
             amount_text(run_flops(plan, title.steps))});
  return table.text();
}

std::string address(const Operand& o) {
  std::string text = fmt::format("{}+{}", o.base, o.bytes);
  if (o.rank_stride != 0) text += fmt::format(" +{}/rank", o.rank_stride);
  if (o.iteration_bytes != 0) text += fmt::format(" +{}/iteration", o.iteration_bytes);
  if (o.iteration_bytes != 0 && o.period != 1) text += fmt::format(":{}", o.period);
  return text;
}

void list_step(const Program& program, const Step& step, const std::string& number, int depth,
               std::string& out) {
  std::vector<std::string> results;
  for (const Operand& o : step.outputs) results.push_back(address(o));
  const std::string waits =
      step.waits.empty() ? "" : fmt::format("  waits for {}", fmt::join(step.waits, ", "));
  const char* stream = step.stream == Stream::kCompute ? "compute" : "transfer";
  out += fmt::format("{:>{}}  {:8}  {:22}  {}  -> {}{}\n", number, 6 + 4 * depth, stream,
                     op_name(step.op), step.name, fmt::join(results, ", "), waits);
  if (step.body < 0) return;
  const Body& body = program.bodies[static_cast<size_t>(step.body)];
  for (size_t i = 0; i < body.steps.size(); ++i) {
    list_step(program, body.steps[i], fmt::format("x{}", body.count), depth + 1, out);
  }
}

}  // namespace

double run_flops(const Plan& plan, int64_t steps) {
  return static_cast<double>(plan.totals.model_flops) * static_cast<double>(plan.ranks) *
         static_cast<double>(steps);
}

std::string plan_summary(const Plan& plan, const PlanTitle& title) {
  return facts(plan, title) + '\n' + memory(plan, title.window_rounding_bytes) + '\n' +
         traffic(plan) + '\n' + work(plan, title);
}

std::string prediction_summary(const Simulation& step) {
  const StepSeconds& s = step.seconds;
  TextTable table({"a step, predicted", ""});
  table.add({"with full overlap", seconds_text(s.full_overlap)});
  table.add({"without overlap", seconds_text(s.no_overlap)});
  table.add({"computing", seconds_text(s.compute)});
  table.add({"communicating", seconds_text(s.communication)});
  table.add({"exposed communication", seconds_text(s.exposed_communication())});
  table.add({"sent inside the node, a rank", bytes_text(step.link_bytes.intra)});
  table.add({"sent to other nodes, a rank", bytes_text(step.link_bytes.inter)});
  return table.text();
}

std::string plan_listing(const Plan& plan) {
  std::string out;
  for (const Program& program : plan.programs) {
    out += fmt::format("program {}: {} steps, {} at most\n", program.name, program.steps.size(),
                       bytes_text(program.live_bytes_peak));
    for (size_t i = 0; i < program.steps.size(); ++i) {
      list_step(program, program.steps[i], std::to_string(i), 0, out);
    }
    out += '\n';
  }
  return out;
}

}  // namespace memwall
