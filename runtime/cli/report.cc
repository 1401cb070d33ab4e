// `memwall report`: runs as one HTML file.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "runtime/base/hash.h"
#include "runtime/cli/machine.h"
#include "runtime/cli/plan_text.h"
#include "runtime/cli/predict.h"
#include "runtime/cli/run_folder.h"
#include "runtime/cli/scale_record.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/verbs.h"
#include "runtime/config/cluster.h"
#include "runtime/config/units.h"
#include "runtime/data/atomic_file.h"
#include "runtime/report/assets.h"
#include "runtime/report/live_json.h"
#include "runtime/report/memory_wall.h"
#include "runtime/report/page.h"
#include "runtime/report/read_run.h"
#include "runtime/report/traces.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct GivenCluster {
  config::Cluster cluster;
  std::string file;
};

// A precision as the configuration spells it: "FP32".
std::string precision_of(const config::Config& config) {
  return config::Precision::Mode_Name(config.precision().mode());
}

// A described cluster as one more generation. Its year is not known.
Generation generation_of(const GivenCluster& given, const std::string& precision) {
  const config::ClusterDevice& device = given.cluster.device();
  const config::ClusterNode& node = given.cluster.node();
  const config::PeakFlops& peak = device.peak_flops();
  const double flops = precision == "FP16"   ? peak.fp16()
                       : precision == "BF16" ? peak.bf16()
                       : precision == "FP64" ? peak.fp64()
                                             : peak.fp32();
  const double nics = static_cast<double>(node.nics()) * node.nic_bandwidth();
  return {.name = device.name(),
          .source = given.file,
          .flops = flops,
          .dram_bandwidth = device.dram_bandwidth(),
          .memory_bytes = static_cast<double>(parse_bytes(device.memory())),
          .link_bandwidth = node.link_bandwidth(),
          .nic_bandwidth = nics / static_cast<double>(node.devices())};
}

// The run's plan, compiled again; where this version makes another one, that one, with a problem.
Plan plan_of(ReportedRun& run, const RunRecord& record) {
  if (record.plan_hash.empty()) {
    return compile(Gpt2(gpt_spec(record.config)), compile_settings(record.config, record.hosting));
  }
  try {
    return compile_run(record);
  } catch (const InputError& error) {
    Plan plan =
        compile(Gpt2(gpt_spec(record.config)), compile_settings(record.config, record.hosting));
    run.problems.push_back(fmt::format(
        "the run was made with plan {}; this version compiles {} from its configuration, and "
        "shows that one's live bytes and work",
        record.plan_hash, hash_hex(plan_hash(plan))));
    return plan;
  }
}

void add_plan(ReportedRun& run, const std::optional<GivenCluster>& cluster, Json& out) {
  if (run.ranks == 0) {
    run.problems.push_back("no file says on how many ranks the run was: its plan is not shown");
    return;
  }
  try {
    RunRecord record;
    record.folder = run.folder;
    record.ranks = run.ranks;
    record.plan_hash = run.plan_hash;
    const std::string file = fmt::format("{}/{}", run.folder, kConfigFile);
    record.config = effective(load_config(file).config, run.ranks);
    record.hosting = hosting_of(
        run.environment.is_object() ? nlohmann::json(run.environment) : nlohmann::json::object(),
        run.ranks);
    const Plan plan = plan_of(run, record);
    const int64_t steps = record.config.run().steps();
    out["plan"] = plan_json(plan, run_flops(plan, steps));
    out["live"] = live_json(plan);
    const std::string precision = precision_of(record.config);
    std::vector<Generation> more;
    if (cluster) more.push_back(generation_of(*cluster, precision));
    out["wall"] = memory_wall_json(plan, precision, more);
    out["run_steps"] = steps;
    if (run.last_step < steps) {
      run.problems.push_back(
          fmt::format("the run is not finished: {} of {} steps", run.last_step, steps));
    }
  } catch (const Error& error) {
    run.problems.push_back(fmt::format("its plan cannot be compiled again: {}", error.what()));
  }
}

void add_prediction(const ReportedRun& run, const std::optional<GivenCluster>& cluster, Json& out) {
  if (!cluster) return;
  try {
    const RunPrediction p = predict_run(run.folder, cluster->cluster, cluster->file);
    out["prediction"] = {{"predicted_seconds", exact(p.predicted_seconds)},
                         {"measured_seconds", exact(p.measured_seconds)},
                         {"error", exact(p.error())},
                         {"steps", p.steps},
                         {"seconds", step_seconds_json(p.predicted.seconds)}};
  } catch (const Error& error) {
    out["prediction"] = {{"problem", error.what()}};
  }
}

using Fields = std::vector<std::pair<std::string, std::string>>;

// What makes losses comparable: the model and the sequence.
std::string model_key(const Fields& config) {
  std::string out;
  for (const auto& [name, value] : config) {
    const bool counts = name.starts_with("model.") && !name.ends_with("seed") &&
                        name != "model.init_from" && name != "model.dropout";
    if (counts || name == "data.seq_length") out += fmt::format("{}={};", name, value);
  }
  return out;
}

// "threads=2" and the processor: what a rank computes with.
std::string rank_machine(const Json& environment) {
  const nlohmann::json all = environment;
  const nlohmann::json hosts = all.value("hosts", nlohmann::json());
  std::string out = all.value("machine", nlohmann::json()).dump();
  if (!hosts.is_array() || hosts.empty() || !hosts[0].is_string()) return out;
  const std::string host = hosts[0].get<std::string>();
  const size_t threads = host.find("threads=");
  if (threads != std::string::npos) out += host.substr(threads, host.find(' ', threads) - threads);
  return out;
}

// What makes speeds comparable under weak scaling: all that a rank does in a step but for the
// stage, and on what. "" where it is not known.
std::string scaling_key(const ReportedRun& run, const Fields& config) {
  if (!run.environment.is_object() || run.ranks == 0) return "";
  std::string out = fmt::format("{};{};", model_key(config), rank_machine(run.environment));
  for (const auto& [name, value] : config) {
    if (name == "data.global_batch_size") {
      out += fmt::format("samples={};", std::atof(value.c_str()) / static_cast<double>(run.ranks));
      continue;
    }
    const bool counts = name == "model.dropout" || name == "data.micro_batch_size" ||
                        name == "precision.mode" || name == "optimizer.kind" ||
                        name.starts_with("optimizer.adahessian.") ||
                        name.starts_with("activation_checkpointing.") ||
                        name.starts_with("parallel.") || name.starts_with("communication.");
    if (counts && name != "parallel.zero_stage") out += fmt::format("{}={};", name, value);
  }
  return out;
}

Json run_json(const std::string& folder, const std::string& shown_as,
              const std::optional<GivenCluster>& cluster) {
  ReportedRun run = read_reported_run(folder, warm_up_steps);
  Json out = {{"folder", shown_as}, {"name", fs::path(shown_as).filename().string()}};
  add_plan(run, cluster, out);
  add_prediction(run, cluster, out);
  const auto config = flat_config(run.config_text);
  out["config"] = config;
  for (const auto& [name, value] : config) {
    if (name == "run.name" && value.size() >= 2) {
      out["title"] = value.substr(1, value.size() - 2);  // without its quotes
    }
  }
  out["model_key"] = model_key(config);
  out["scaling_key"] = scaling_key(run, config);
  out["ranks"] = run.ranks;
  out["plan_hash"] = run.plan_hash;
  out["environment"] = run.environment;
  out["steps"] = run.steps;
  out["rank_table"] = run.rank_table;
  out["validation"] = run.validation;
  out["problems"] = run.problems;
  return out;
}

struct Page {
  Json runs = Json::array(), scales = Json::array();
  std::set<std::string> known;  // folders that are in `runs`
};

void add_run(const std::string& folder, const std::string& shown_as,
             const std::optional<GivenCluster>& cluster, Page& page) {
  if (!page.known.insert(fs::canonical(folder)).second) return;
  page.runs.push_back(run_json(folder, shown_as, cluster));
}

void add_scale(const std::string& folder, const std::optional<GivenCluster>& cluster, Page& page) {
  Json scale = read_scale_json(folder);
  scale["folder"] = folder;
  for (Json& entry : scale["runs"]) {
    if (!entry.is_object() || !entry.value("run", Json()).is_string()) continue;
    const std::string run = entry["run"].get<std::string>();
    const std::string path = (fs::path(folder) / run).string();
    if (!run.empty() && holds_run(path)) {
      add_run(path, path, cluster, page);
      for (Json& known : page.runs) {
        if (known["folder"] == path) known["sweep"] = folder;
      }
    } else if (entry.value("status", Json()) == "done") {
      entry["problem"] = "its run folder is missing";
    }
  }
  page.scales.push_back(std::move(scale));
}

void add_argument(const std::string& argument, const std::optional<GivenCluster>& cluster,
                  Page& page) {
  std::error_code error;
  if (!fs::is_directory(argument, error)) throw InputError("no such run folder", argument);
  if (holds_run(argument)) {
    add_run(argument, argument, cluster, page);
  } else if (fs::exists(fs::path(argument) / kScaleFile)) {
    add_scale(argument, cluster, page);
  } else {
    throw InputError(fmt::format("is neither a run folder nor one of memwall scale: it has no {} "
                                 "and no {}",
                                 kConfigFile, kScaleFile),
                     argument, "name a folder that memwall train or scale made");
  }
}

// A path that cannot be written is the user's to mend.
void write(const std::string& path, const std::string& text, const char* option) {
  if (fs::is_directory(path)) throw InputError("is a folder", path, "name the file to write");
  try {
    write_file_atomically(path, text);
  } catch (const Error& error) {
    throw InputError(error.what(), "", fmt::format("name another file with {}", option));
  }
}

void check_trace(const ReportOptions& options) {
  if (options.runs.size() != 1) {
    throw InputError(fmt::format("is of one run, and {} are named", options.runs.size()), "--trace",
                     "name one run folder");
  }
  if (fs::weakly_canonical(options.trace) == fs::weakly_canonical(options.output)) {
    throw InputError("is the page's file too", "--trace", "name another file");
  }
}

}  // namespace

ExitCode report_verb(const ReportOptions& options) {
  if (!options.trace.empty()) check_trace(options);
  std::optional<GivenCluster> cluster;
  if (!options.cluster.empty()) cluster = {load_cluster(options.cluster), options.cluster};
  Page content;
  for (const std::string& run : options.runs) add_argument(run, cluster, content);
  Json categories = Json::array();
  for (size_t c = 0; c < kCategoryCount; ++c) {
    categories.push_back(name_of(static_cast<Category>(c)));
  }
  if (!options.trace.empty()) {
    write(options.trace, merged_traces(options.runs[0]), "--trace");
  }
  const Json data = {{"memwall", MEMWALL_VERSION},
                     {"made", fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(std::time(nullptr)))},
                     {"command", options.command_line},
                     {"categories", std::move(categories)},
                     {"cluster", cluster ? Json(cluster->file) : Json()},
                     {"trends", Json::parse(assets::kTrends)},
                     {"runs", std::move(content.runs)},
                     {"scales", std::move(content.scales)}};
  const std::string text = page(data);
  write(options.output, text, "-o");
  int64_t problems = 0;
  for (const Json& run : data["runs"]) problems += run["problems"].empty() ? 0 : 1;
  fmt::print("{}: {} run{}, {:.1f} MB", options.output, data["runs"].size(),
             data["runs"].size() == 1 ? "" : "s", static_cast<double>(text.size()) / 1e6);
  if (problems > 0) fmt::print("; {} incomplete, as the page says", problems);
  fmt::print("\n");
  return ExitCode::kDone;
}

}  // namespace memwall
