// `memwall simulate`: a step's seconds on a described cluster, rank count by rank count.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/cli/against.h"
#include "runtime/cli/candidate.h"
#include "runtime/cli/machine.h"
#include "runtime/cli/rank_counts.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/verbs.h"
#include "runtime/config/cluster.h"
#include "runtime/sim/scaling.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGoodEfficiency = 0.9;

// Of one rank count. What is not known where the plan does not fit stays empty.
struct Row {
  int64_t ranks = 0, nodes = 1;
  int64_t planned_bytes = 0;
  bool fits = false;
  double tokens_per_second = 0.0;  // of all ranks
  Simulation step;
  Bottleneck bottleneck = Bottleneck::kMemoryCapacity;
  // Against the smallest count that fits; empty for that one.
  double efficiency = 1.0;
  bool is_base = false;
  std::optional<double> link_factor;  // of kGoodEfficiency: see link_factor_for
};

struct Sweep {
  config::Cluster cluster;
  WhatIf what_if;
  Machine machine;                     // with what_if
  std::optional<Algorithm> algorithm;  // as communication.algorithm; AUTO: by size, on the machine
  int64_t limit_bytes = 0;  // a rank: the device's memory, and memory.budget where it is less
  int64_t prefetch_depth = 0;
  std::vector<Row> rows;
  std::optional<Compared> against;  // on the machine as it is described
};

std::string_view algorithm_name(const Sweep& sweep) {
  return sweep.algorithm ? name_of(*sweep.algorithm) : "auto";
}

Plan plan_of(const Sweep& sweep, const config::Config& config, int64_t ranks) {
  return compile(Gpt2(gpt_spec(config)), compile_settings_on(sweep.machine, config, ranks));
}

Row row_of(const Sweep& sweep, const config::Config& config, int64_t ranks,
           const std::vector<Row>& before) {
  const Plan plan = plan_of(sweep, config, ranks);
  Row out;
  out.ranks = ranks;
  out.nodes = topology_of(sweep.machine, ranks).nodes;
  out.planned_bytes = planned_bytes(plan);
  out.step = simulate(plan, sweep.machine);
  out.fits = out.planned_bytes <= sweep.limit_bytes;
  if (!out.fits) return out;
  out.bottleneck = bottleneck_of(out.step.seconds);
  const double tokens = static_cast<double>(config.data().global_batch_size()) *
                        static_cast<double>(config.data().seq_length());
  out.tokens_per_second = tokens / out.step.seconds.full_overlap;
  const auto base =
      std::find_if(before.begin(), before.end(), [](const Row& row) { return row.is_base; });
  out.is_base = base == before.end();
  if (out.is_base) return out;
  const double base_seconds = base->step.seconds.full_overlap;
  out.efficiency = base_seconds / out.step.seconds.full_overlap;
  const bool follows = !sweep.algorithm && !config.communication().has_cluster();
  out.link_factor = link_factor_for(plan, sweep.machine, base_seconds / kGoodEfficiency,
                                    follows ? Chosen::kByTheLinks : Chosen::kByPlan);
  return out;
}

// Weak scaling: micro-batch and micro-steps are those of the smallest count.
Sweep sweep_of(const SimulateOptions& options) {
  const std::vector<int64_t> counts = parse_rank_counts(options.ranks);
  Sweep out;
  out.cluster = load_cluster(options.cluster);
  out.what_if = parse_what_if(options.what_if);
  out.machine = scaled(machine_of(out.cluster, options.cluster), out.what_if);
  for (int64_t ranks : counts) topology_of(out.machine, ranks);  // all, before the work
  const std::vector<std::string> against = runs_of(options.against);
  Change change;
  if (!options.algorithm.empty()) change.sets.push_back(algorithm_setting(options.algorithm));
  const config::Config first = config_of({options.config, counts[0], {}}, change);
  out.algorithm = fabric_request(first.communication()).algorithm;
  const int64_t a_rank = first.data().global_batch_size() / counts[0];  // sequences
  out.prefetch_depth = first.parallel().prefetch_depth();
  const int64_t budget = budget_bytes(first);
  out.limit_bytes =
      budget > 0 ? std::min(budget, out.machine.memory_bytes) : out.machine.memory_bytes;
  for (int64_t ranks : counts) {
    Change grown = change;
    grown.sets.push_back(fmt::format("data.global_batch_size={}", a_rank * ranks));
    const config::Config config = config_of({options.config, ranks, {}}, grown);
    out.rows.push_back(row_of(out, config, ranks, out.rows));
  }
  if (!against.empty()) out.against = compare(against, machine_of(out.cluster, options.cluster));
  return out;
}

double exposed_share(const StepSeconds& seconds) {
  return seconds.exposed_communication() / seconds.full_overlap;
}

// What a link must have, by its data sheet, bytes/s: a NIC where there are several nodes, else a
// device's link inside the node.
double good_bandwidth(const Sweep& sweep, const Row& row) {
  const config::ClusterNode& node = sweep.cluster.node();
  return *row.link_factor * sweep.what_if.link *
         (row.nodes > 1 ? node.nic_bandwidth() : node.link_bandwidth());
}

Json row_json(const Sweep& sweep, const Row& row) {
  Json out = {{"ranks", row.ranks},
              {"nodes", row.nodes},
              {"planned_bytes", row.planned_bytes},
              {"fits", row.fits},
              {"bottleneck", name_of(row.bottleneck)},
              {"link_bytes", link_bytes_json(row.step.link_bytes)}};
  if (!row.fits) return out;
  out["step_seconds"] = step_seconds_json(row.step.seconds);
  out["tokens_per_second"] = exact(row.tokens_per_second);
  out["efficiency"] = exact(row.efficiency);
  out["exposed_share"] = exact(exposed_share(row.step.seconds));
  Json good;
  if (row.link_factor) {
    good = {{"factor", exact(*row.link_factor)},
            {"bandwidth", exact(good_bandwidth(sweep, row))},
            {"link", row.nodes > 1 ? "inter" : "intra"}};
  }
  out["link_for_90_percent"] = good;
  Json by_op = Json::object();
  for (size_t op = 0; op < kOpCount; ++op) {
    if (row.step.by_op[op] > 0.0) {
      by_op[std::string(op_name(static_cast<Op>(op)))] = exact(row.step.by_op[op]);
    }
  }
  out["seconds_by_op"] = by_op;
  return out;
}

void print_json(const SimulateOptions& options, const Sweep& sweep) {
  Json rows = Json::array();
  for (const Row& row : sweep.rows) rows.push_back(row_json(sweep, row));
  Json out = {{"cluster", options.cluster},
              {"device", sweep.cluster.device().name()},
              {"algorithm", algorithm_name(sweep)},
              {"what_if",
               {{"flops", exact(sweep.what_if.flops)},
                {"dram", exact(sweep.what_if.dram)},
                {"link", exact(sweep.what_if.link)}}},
              {"limit_bytes", sweep.limit_bytes},
              {"prefetch_depth", sweep.prefetch_depth},
              {"rows", rows}};
  if (sweep.against) {
    out["against"] = compared_json(*sweep.against);
    out["against_error"] = errors_json(*sweep.against);
  }
  fmt::print("{}\n", out.dump(2));
}

std::string link_text(const Sweep& sweep, const Row& row) {
  if (row.is_base) return "-";
  if (!row.link_factor) return "no link is enough";
  if (*row.link_factor == 0.0) return "any";
  const double bandwidth = good_bandwidth(sweep, row);
  return row.nodes > 1 ? fmt::format("{:.3g} Gb/s a NIC", bandwidth * 8e-9)
                       : fmt::format("{:.3g} GB/s a device", bandwidth * 1e-9);
}

void print_text(const SimulateOptions& options, const Sweep& sweep) {
  const config::ClusterNode& node = sweep.cluster.node();
  fmt::print("{}: nodes of {} x {}", options.cluster, node.devices(),
             sweep.cluster.device().name());
  if (node.nics() > 0) {
    fmt::print(" and {} x {:.4g} Gb/s", node.nics(), node.nic_bandwidth() * 8e-9);
  }
  fmt::print("; collectives {}", algorithm_name(sweep));
  if (sweep.what_if != WhatIf{}) fmt::print("; what if {}", options.what_if);
  fmt::print("\n\n");
  TextTable table({"ranks", "a rank", "step", "no overlap", "tokens/s", "efficiency", "exposed",
                   "link for 90 %", "bottleneck"});
  for (const Row& row : sweep.rows) {
    if (!row.fits) {
      table.add({std::to_string(row.ranks), bytes_text(row.planned_bytes), "does not fit", "-", "-",
                 "-", "-", "-", std::string(name_of(row.bottleneck))});
      continue;
    }
    const StepSeconds& s = row.step.seconds;
    table.add({std::to_string(row.ranks), bytes_text(row.planned_bytes),
               seconds_text(s.full_overlap), seconds_text(s.no_overlap),
               amount_text(row.tokens_per_second), fmt::format("{:.1f} %", 100 * row.efficiency),
               fmt::format("{:.1f} %", 100 * exposed_share(s)), link_text(sweep, row),
               std::string(name_of(row.bottleneck))});
  }
  fmt::print("{}\nPredicted, not measured: docs/scaling.md has the formulas and assumptions.\n",
             table.text());
  if (sweep.prefetch_depth == 0 && sweep.rows.back().ranks > 1) {
    fmt::print("parallel.prefetch_depth is 0: every transfer is waited for at once.\n");
  }
  if (sweep.against) fmt::print("\n{}", compared_text(*sweep.against));
}

}  // namespace

ExitCode simulate_verb(const SimulateOptions& options) {
  const Sweep sweep = sweep_of(options);
  if (options.json) {
    print_json(options, sweep);
  } else {
    print_text(options, sweep);
  }
  std::fflush(stdout);
  if (std::none_of(sweep.rows.begin(), sweep.rows.end(), [](const Row& r) { return r.fits; })) {
    const Row& least = *std::min_element(
        sweep.rows.begin(), sweep.rows.end(),
        [](const Row& a, const Row& b) { return a.planned_bytes < b.planned_bytes; });
    throw BudgetError(
        fmt::format("nothing fits {} a rank; on {} ranks the plan needs {}",
                    bytes_text(sweep.limit_bytes), least.ranks, bytes_text(least.planned_bytes)),
        "--ranks", "more ranks, or settings that hold less: memwall fit");
  }
  return ExitCode::kDone;
}

}  // namespace memwall
