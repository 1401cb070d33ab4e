#include "runtime/train/metrics.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "memory/arena.h"
#include "runtime/base/hash.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

Json by_category(const ByCategory& bytes) {
  Json out = Json::object();
  for (size_t c = 0; c < kCategoryCount; ++c) {
    out[std::string(name_of(static_cast<Category>(c)))] = bytes[c];
  }
  return out;
}

// Categories at the peak of the program that has the highest.
Json memory_json(const Plan& plan, const std::vector<std::string>& programs, int64_t rank) {
  ByCategory at_peak{}, maximum{};
  int64_t peak = -1;
  for (const std::string& name : programs) {
    const Program& program = plan.program(name);
    if (program.live_bytes_peak > peak) {
      peak = program.live_bytes_peak;
      at_peak = program.at_peak;
    }
    for (size_t c = 0; c < kCategoryCount; ++c) {
      maximum[c] = std::max(maximum[c], program.maximum[c]);
    }
  }
  Json out = by_category(at_peak);
  out["maximum"] = by_category(maximum);
  out["peak"] = written_page_bytes(plan, programs, rank);
  out["lower_bound"] = plan.totals.lower_bound;
  out["page_bytes"] = plan.page_bytes;
  const int64_t windows = window_bytes_per_rank(plan.fabric.window_ranks);
  out["windows"] = windows;
  out["windows_mapped"] = windows * plan.fabric.window_ranks;
  return out;
}

template <class T>  // PlannedTraffic or Traffic
Json one_traffic(const T& traffic) {
  return {{"calls", traffic.calls},
          {"payload_bytes", traffic.payload_bytes},
          {"wire_bytes", traffic.wire_bytes}};
}

Json planned_traffic(const StepTotals& totals) {
  return {{"all_gather", one_traffic(totals.all_gather)},
          {"reduce_scatter", one_traffic(totals.reduce_scatter)},
          {"all_reduce", one_traffic(totals.all_reduce)}};
}

// "block12/scatter" -> "block*/scatter": the blocks' buffers are alike.
std::string without_block_number(const std::string& name) {
  constexpr std::string_view kBlock = "block";
  if (!name.starts_with(kBlock)) return name;
  const size_t end = name.find_first_not_of("0123456789", kBlock.size());
  return end == kBlock.size() ? name : "block*" + name.substr(std::min(end, name.size()));
}

// Of buffers of one name the largest.
Json communication_buffers(const Plan& plan) {
  Json out = Json::object();
  for (const PlanValue& value : plan.values) {
    if (value.category != Category::kCommunication) continue;
    int64_t& bytes =
        out.emplace(without_block_number(value.name), int64_t{0}).first->get_ref<int64_t&>();
    bytes = std::max(bytes, value.bytes);
  }
  return out;
}

}  // namespace

Json planned_json(const Plan& plan, const std::vector<std::string>& programs, int64_t rank,
                  bool curvature) {
  const StepTotals& totals = curvature ? plan.totals : plan.totals.between;
  return {{"memory", memory_json(plan, programs, rank)}, {"traffic", planned_traffic(totals)}};
}

int64_t hessian_bytes(const Plan& plan) {
  int64_t bytes = 0;
  for (const Slot& slot : plan.slots) {
    if (slot.kind == SlotKind::kCurvature || slot.kind == SlotKind::kTraceSum) bytes += slot.bytes;
  }
  return bytes;
}

Json plan_json(const Plan& plan, double run_total_flops) {
  std::vector<std::string> programs;
  for (const Program& program : plan.programs) programs.push_back(program.name);
  const Totals& totals = plan.totals;
  return {{"parameters", plan.parameters},
          {"ranks", plan.ranks},
          {"zero_stage", plan.zero_stage},
          {"transport", plan.ranks == 1 ? "NONE" : name_of(plan.fabric.transport)},
          {"plan_hash", hash_hex(plan_hash(plan))},
          {"memory", memory_json(plan, programs, 0)},
          {"traffic", planned_traffic(totals)},
          {"traffic_between", planned_traffic(totals.between)},
          {"hessian", hessian_bytes(plan)},
          {"flops",
           {{"model", totals.model_flops},
            {"recomputed", totals.recomputed_flops},
            {"tangent", totals.tangent_flops},
            {"run_total", exact(run_total_flops)}}},
          {"dram_bytes", totals.dram_bytes},
          {"padding", totals.padding_bytes},
          {"communication_buffers", communication_buffers(plan)}};
}

void OutsideMemory::mark(const std::string& line, int64_t arena_resident_bytes) {
  int64_t grown = resident_anonymous_bytes() - arena_resident_bytes - baseline_bytes;
  for (const auto& [name, bytes] : growth) grown -= bytes;
  growth.emplace_back(line, grown);
}

Json measured_memory_json(const Executor& executor, const OutsideMemory& outside) {
  const int64_t resident = executor.arena().resident_bytes();
  const int64_t anonymous = resident_anonymous_bytes();
  Json lines = {{"baseline", outside.baseline_bytes}};
  int64_t other = anonymous - resident - outside.baseline_bytes;
  for (const auto& [name, bytes] : outside.growth) {
    lines[name] = bytes;
    other -= bytes;
  }
  lines["other"] = other;
  if (executor.device() != nullptr) {
    lines["copies_of_slots"] = resident;
    for (const auto& [name, bytes] : outside.device) lines[name] = bytes;
    const int64_t graphs = executor.device_graph_bytes();
    lines["gpu_graphs"] = graphs;
    lines["gpu_libraries"] = executor.device_growth_bytes() - graphs;
  }
  return {{"peak", executor.device() != nullptr ? executor.device_arena_bytes() : resident},
          {"rss_anon", anonymous},
          {"windows_mapped", outside.windows_mapped},
          {"outside", std::move(lines)}};
}

Json traffic_json(const Ledger& since_step_start) {
  return {{"all_gather", one_traffic(since_step_start[Collective::kAllGather])},
          {"reduce_scatter", one_traffic(since_step_start[Collective::kReduceScatter])},
          {"all_reduce", one_traffic(since_step_start[Collective::kAllReduce])}};
}

Json seconds_json(const StepSplit& split) {
  const auto seconds = [](int64_t ns) { return static_cast<double>(ns) / 1e9; };
  return {{"total", seconds(split.total_ns)},
          {"input", seconds(split.input_ns)},
          {"compute", seconds(split.compute_ns)},
          {"progress", seconds(split.progress_ns)},
          {"exposed_communication", seconds(split.exposed_communication_ns)},
          {"wait", seconds(split.wait_ns)},
          {"update", seconds(split.update_ns)},
          {"other", seconds(split.other_ns)},
          {"communication", seconds(split.communication_ns)},
          {"micro_steps", seconds(split.micro_steps_ns)}};
}

Ledger difference(const Ledger& now, const Ledger& before) {
  Ledger out = now;
  for (size_t c = 0; c < out.traffic.size(); ++c) {
    out.traffic[c].calls -= before.traffic[c].calls;
    out.traffic[c].payload_bytes -= before.traffic[c].payload_bytes;
    out.traffic[c].wire_bytes -= before.traffic[c].wire_bytes;
  }
  return out;
}

Json exact(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

}  // namespace memwall
