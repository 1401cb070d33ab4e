// `memwall fit`: the deepest model, the largest micro-batch or the cheapest settings in a budget.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/cli/search.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/verbs.h"
#include "runtime/config/units.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

struct Budget {
  std::string text;  // as the user wrote it
  int64_t bytes = 0;
};

// --budget, else memory.budget.
Budget budget_of(const FitOptions& options, const config::Config& config) {
  if (!options.budget.empty()) {
    try {
      return {options.budget, parse_bytes(options.budget)};
    } catch (const InputError& error) {
      throw InputError(error.what(), "--budget");
    }
  }
  if (config.memory().has_budget()) return {config.memory().budget(), budget_bytes(config)};
  throw InputError("is missing, and memory.budget as well", "--budget", "e.g. --budget 512MiB");
}

Vary vary_of(const std::string& word) {
  if (word == "settings") return Vary::kSettings;
  if (word == "layers") return Vary::kLayers;
  if (word == "micro_batch") return Vary::kMicroBatch;
  throw InputError(fmt::format("\"{}\" cannot be varied", word), "--vary",
                   "allowed: settings, layers, micro_batch");
}

Json traffic_json(const PlannedTraffic& t) {
  return {{"calls", t.calls}, {"payload_bytes", t.payload_bytes}, {"wire_bytes", t.wire_bytes}};
}

Json candidate_json(const SearchBase& base, const std::optional<Candidate>& candidate,
                    const std::string& budget) {
  if (!candidate) return nullptr;
  const Candidate& c = *candidate;
  return {{"sets", c.change.sets},
          {"command", command_line(base, c.change, budget)},
          {"changes_results", c.change.changes_results},
          {"planned_bytes", c.planned_bytes},
          {"parameters", c.parameters},
          {"layers", c.layers},
          {"zero_stage", c.zero_stage},
          {"policy", c.policy},
          {"precision", c.precision},
          {"micro_batch", c.micro_batch},
          {"micro_steps", c.micro_steps},
          {"flops",
           {{"model", c.model_flops},
            {"recomputed", c.recomputed_flops},
            {"tangent", c.tangent_flops}}},
          {"traffic",
           {{"all_gather", traffic_json(c.all_gather)},
            {"reduce_scatter", traffic_json(c.reduce_scatter)},
            {"all_reduce", traffic_json(c.all_reduce)},
            {"wire_bytes", c.wire_bytes()}}}};
}

// A plan that does not fit is run with the budget that it needs.
std::string budget_for(const Candidate& c) {
  return fmt::format("{}B", c.planned_bytes);
}

void print_json(const FitOptions& options, const SearchBase& base, const Budget& budget,
                const SearchResult& found) {
  Json candidates = Json::array();
  for (const Candidate& c : found.fitting) {
    candidates.push_back(candidate_json(base, c, budget.text));
  }
  const auto with_own_budget = [&](const std::optional<Candidate>& c) {
    return candidate_json(base, c, c ? budget_for(*c) : "");
  };
  const Json out = {{"vary", options.vary},
                    {"ranks", base.ranks},
                    {"budget_bytes", budget.bytes},
                    {"best", candidates.empty() ? Json() : candidates[0]},
                    {"next", with_own_budget(found.next)},
                    {"smallest", with_own_budget(found.smallest)},
                    {"candidates", candidates}};
  fmt::print("{}\n", out.dump(2));
}

std::vector<std::string> row(const Candidate& c, bool marks_other_results) {
  return {bytes_text(c.planned_bytes),
          std::to_string(c.layers),
          count_text(c.parameters),
          std::to_string(c.zero_stage),
          c.policy,
          c.precision + (marks_other_results && c.change.changes_results ? " *" : ""),
          fmt::format("{} x {}", c.micro_steps, c.micro_batch),
          amount_text(static_cast<double>(c.flops())),
          bytes_text(c.wire_bytes())};
}

void print_text(const FitOptions& options, const SearchBase& base, const Budget& budget,
                const SearchResult& found) {
  if (found.fitting.empty()) return;
  TextTable table({"a rank", "layers", "parameters", "ZeRO", "policy", "precision", "micro-steps",
                   "FLOPs a step", "sent a step"});
  for (const Candidate& c : found.fitting) table.add(row(c, options.vary == "settings"));
  fmt::print("{}", table.text());
  const bool other = options.vary == "settings" &&
                     std::any_of(found.fitting.begin(), found.fitting.end(),
                                 [](const Candidate& c) { return c.change.changes_results; });
  if (other) fmt::print("* other results than with the precision given\n");
  fmt::print("\nin {} a rank, the {} on {} rank{}:\n  {}\n", bytes_text(budget.bytes),
             options.vary == "layers"        ? "deepest model"
             : options.vary == "micro_batch" ? "largest micro-batch"
                                             : "cheapest settings",
             base.ranks, base.ranks == 1 ? "" : "s",
             command_line(base, found.fitting[0].change, budget.text));
  if (found.next) {
    fmt::print("the next needs {} ({} more than the budget):\n  {}\n",
               bytes_text(found.next->planned_bytes),
               bytes_text(found.next->planned_bytes - budget.bytes),
               command_line(base, found.next->change, budget_for(*found.next)));
  }
}

void refuse(const SearchBase& base, const Budget& budget, const Candidate& smallest) {
  throw BudgetError(
      fmt::format("nothing fits {} a rank on {} rank{}; the smallest plan needs {} more, the "
                  "smallest budget that works is {}:\n  {}",
                  bytes_text(budget.bytes), base.ranks, base.ranks == 1 ? "" : "s",
                  bytes_text(smallest.planned_bytes - budget.bytes), budget_for(smallest),
                  command_line(base, smallest.change, budget_for(smallest))),
      "--budget");
}

}  // namespace

ExitCode fit_verb(const FitOptions& options) {
  if (options.ranks == 0) throw InputError("is missing", "--ranks", "e.g. --ranks 2");
  const Vary vary = vary_of(options.vary);
  const SearchBase base{options.config, options.ranks, {}};
  const Budget budget = budget_of(options, config_of(base, {}));
  const SearchResult found = search(base, vary, budget.bytes);
  if (options.json) {
    print_json(options, base, budget, found);
  } else {
    print_text(options, base, budget, found);
  }
  std::fflush(stdout);
  if (found.fitting.empty()) refuse(base, budget, *found.smallest);
  return ExitCode::kDone;
}

}  // namespace memwall
