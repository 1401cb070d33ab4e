#include "runtime/cli/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/base/hash.h"
#include "runtime/cli/machine.h"
#include "runtime/cli/run_folder.h"
#include "runtime/cli/samples.h"
#include "runtime/cli/settings.h"
#include "runtime/passes/compile.h"

namespace memwall {
namespace {

using Json = nlohmann::json;

constexpr int64_t kLeastWarmUp = 2;
constexpr double kWarmUpShare = 0.2;

std::string path_of(const std::string& folder, std::string_view file) {
  return folder + '/' + std::string(file);
}

Json read_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw InputError("is missing", path, "the run folder is not complete");
  Json out = Json::parse(file, nullptr, false);
  if (!out.is_object()) throw InputError("is no JSON object", path, "the file is damaged");
  return out;
}

// "plan        NAME, HASH" of plan.txt.
void read_plan_summary(const std::string& path, RunRecord& out) {
  std::ifstream file(path);
  if (!file) throw InputError("is missing", path, "the run folder is not complete");
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const size_t comma = line.rfind(", ");
    if (line.starts_with("plan ") && comma != std::string::npos) {
      out.plan_hash = line.substr(comma + 2);
    }
  }
  if (out.plan_hash.size() != hash_hex(0).size()) {
    throw InputError("names no plan in its first line", path, "the file is damaged");
  }
}

struct StepLine {
  double seconds = 0.0;
  bool curvature = false;
};

// By step. A last line without its end is that of a run that was cut off, and left out.
std::map<int64_t, StepLine> read_lines(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw InputError("is missing", path, "a rank wrote no metrics");
  std::map<int64_t, StepLine> out;
  std::string text;
  for (int64_t line = 1; std::getline(file, text); ++line) {
    if (file.eof()) break;
    const Json json = Json::parse(text, nullptr, false);
    const bool whole = json.is_object() && json.contains("step") && json.contains("step_seconds") &&
                       json["step"].is_number_integer() && json["step_seconds"].is_number();
    if (!whole) {
      throw InputError("is no line of metrics with step and step_seconds",
                       fmt::format("{}:{}", path, line), "the file is damaged");
    }
    out[json["step"].get<int64_t>()] = {json["step_seconds"].get<double>(),
                                        json.contains("hessian")};
  }
  return out;
}

void read_steps(RunRecord& out) {
  std::map<int64_t, StepLine> slowest;
  for (int64_t rank = 0; rank < out.ranks; ++rank) {
    const std::map<int64_t, StepLine> lines = read_lines(metrics_path(out.folder, rank));
    if (rank == 0) slowest = lines;
    std::erase_if(slowest, [&](const auto& entry) { return !lines.contains(entry.first); });
    for (auto& [step, line] : slowest)
      line.seconds = std::max(line.seconds, lines.at(step).seconds);
  }
  if (slowest.empty()) {
    throw InputError("there is no step that every rank finished", out.folder + "/metrics",
                     "the run ended before its first step did");
  }
  for (const auto& [step, line] : slowest) {
    out.steps.push_back(step);
    out.step_seconds.push_back(line.seconds);
    out.measured_curvature.push_back(line.curvature);
  }
}

// InputError where the machine's nodes are others than the run's.
void check_nodes(const RunRecord& run, const Machine& machine) {
  const int64_t on_it = topology_of(machine, run.ranks).ranks_a_node;
  const int64_t a_node = run.hosting.ranks_a_node;
  if (on_it == a_node) return;
  throw InputError(
      fmt::format("ran with {} rank{} a host, and {} would have {} of {} ranks on a node", a_node,
                  a_node == 1 ? "" : "s", machine.name, on_it, run.ranks),
      run.folder, "a description with such nodes");
}

// Predicted and measured seconds of the run's steps of one kind.
struct Kind {
  Simulation predicted;
  Samples measured;
};

}  // namespace

Hosting hosting_of(const Json& environment, int64_t ranks) {
  std::vector<std::string> hosts;
  for (const Json& rank : environment.value("hosts", Json::array())) {
    const std::string text = rank.is_string() ? rank.get<std::string>() : "";
    hosts.push_back(text.substr(0, text.find(' ')));
  }
  if (std::cmp_not_equal(hosts.size(), ranks)) return {ranks, ranks, ranks};
  const int64_t here = std::count(hosts.begin(), hosts.end(), hosts[0]);
  bool even = ranks % here == 0;
  for (int64_t r = 0; even && r < ranks; ++r) {
    even = hosts[static_cast<size_t>(r)] == hosts[static_cast<size_t>(r / here * here)] &&
           std::count(hosts.begin(), hosts.end(), hosts[static_cast<size_t>(r)]) == here;
  }
  return {ranks, here, even ? here : 1};
}

RunRecord read_run(const std::string& folder) {
  RunRecord out;
  out.folder = find_run(folder);
  const Json environment = read_json(path_of(out.folder, kEnvironmentFile));
  if (!environment.contains("ranks") || !environment["ranks"].is_number_integer() ||
      environment["ranks"].get<int64_t>() < 1) {
    throw InputError("does not say on how many ranks the run was",
                     path_of(out.folder, kEnvironmentFile), "the file is damaged");
  }
  out.ranks = environment["ranks"].get<int64_t>();
  out.hosting = hosting_of(environment, out.ranks);
  out.config = effective(load_config(path_of(out.folder, kConfigFile)).config, out.ranks);
  read_plan_summary(path_of(out.folder, kPlanFile), out);
  read_steps(out);
  return out;
}

Plan compile_run(const RunRecord& run) {
  Plan plan = compile(Gpt2(gpt_spec(run.config)), compile_settings(run.config, run.hosting));
  const std::string hash = hash_hex(plan_hash(plan));
  if (hash == run.plan_hash) return plan;
  throw InputError(fmt::format("was made with plan {}, and this version compiles {} from its "
                               "configuration",
                               run.plan_hash, hash),
                   run.folder, "a run of this version");
}

int64_t warm_up_steps(int64_t steps) {
  const auto share = static_cast<int64_t>(std::ceil(kWarmUpShare * static_cast<double>(steps)));
  return std::clamp<int64_t>(std::max(kLeastWarmUp, share), 0, std::max<int64_t>(0, steps - 1));
}

RunPrediction predict_run(const std::string& run_folder, const Machine& machine) {
  const RunRecord run = read_run(run_folder);
  check_nodes(run, machine);
  const Plan plan = compile_run(run);
  RunPrediction out{.folder = run_folder,
                    .ranks = run.ranks,
                    .zero_stage = plan.zero_stage,
                    .parameters = plan.parameters,
                    .predicted = {}};
  const auto first = static_cast<size_t>(warm_up_steps(static_cast<int64_t>(run.steps.size())));
  std::array<Kind, 2> kinds;  // without and with curvature
  for (size_t i = first; i < run.steps.size(); ++i) {
    kinds[run.measured_curvature[i] ? 1 : 0].measured.add(run.step_seconds[i]);
  }
  out.steps = static_cast<int64_t>(run.steps.size() - first);
  for (size_t k : {size_t{1}, size_t{0}}) {
    Kind& kind = kinds[k];
    if (kind.measured.values.empty()) continue;
    kind.predicted = simulate(plan, machine, k == 1);
    const double share =
        static_cast<double>(kind.measured.values.size()) / static_cast<double>(out.steps);
    out.predicted_seconds += share * kind.predicted.seconds.full_overlap;
    out.measured_seconds += share * kind.measured.median();
    out.predicted = std::move(kind.predicted);
  }
  return out;
}

RunPrediction predict_run(const std::string& run_folder, const config::Cluster& cluster,
                          const std::string& cluster_file) {
  return predict_run(run_folder, machine_of(cluster, cluster_file));
}

PredictionErrors errors_of(const std::vector<RunPrediction>& runs) {
  Samples errors;
  for (const RunPrediction& run : runs) errors.add(std::abs(run.error()));
  if (errors.values.empty()) return {};
  return {errors.median(), *std::max_element(errors.values.begin(), errors.values.end())};
}

}  // namespace memwall
