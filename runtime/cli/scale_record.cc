#include "runtime/cli/scale_record.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/cli/run_folder.h"
#include "runtime/data/atomic_file.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string_view name_of(ScaleOutcome::Status status) {
  switch (status) {
    case ScaleOutcome::Status::kMissing: return "missing";
    case ScaleOutcome::Status::kDone: return "done";
    case ScaleOutcome::Status::kFailed: return "failed";
  }
  throw InternalError("a status without a name");
}

template <class Number>
Json or_null(const std::optional<Number>& number) {
  if (!number) return nullptr;
  if constexpr (std::is_same_v<Number, double>) return exact(*number);
  return *number;
}

Json figures_json(const ScaleReport& report, const ScaleOutcome& outcome) {
  const ScaleFigures& f = *outcome.figures;
  Json seconds = Json::object();
  for (const auto& [name, value] : f.seconds) seconds[name] = exact(value);
  Json out = {{"step_seconds", exact(f.step_seconds)},
              {"tokens_per_second", exact(f.tokens_per_second)},
              {"efficiency", or_null(efficiency(report, outcome))},
              {"seconds", seconds},
              {"traffic", {{"planned", f.planned_traffic}, {"measured", f.measured_traffic}}},
              {"bus_bandwidth", or_null(f.bus_bandwidth())},
              {"predicted", nullptr},
              {"prediction_error", nullptr},
              {"memory", {{"planned_peak", f.planned_peak}, {"measured_peak", f.measured_peak}}},
              {"threads", f.threads},
              {"oversubscribed", f.oversubscribed},
              {"loss", exact(f.loss)},
              {"link_sent_bytes", or_null(outcome.link_bytes)}};
  if (f.prediction) {
    out["predicted"] = {{"step_seconds", exact(f.prediction->step_seconds)},
                        {"exposed_communication", exact(f.prediction->exposed_communication)}};
    out["prediction_error"] = exact(f.prediction->error);
  }
  return out;
}

Json outcome_json(const ScaleReport& report, const ScaleOutcome& outcome) {
  Json out = {{"ranks", outcome.run.ranks},           {"hosts", outcome.run.placement.hosts},
              {"zero_stage", outcome.run.zero_stage}, {"run", outcome.run.folder},
              {"status", name_of(outcome.status)},    {"error", nullptr}};
  if (!outcome.error.empty()) out["error"] = outcome.error;
  if (outcome.figures) out.update(figures_json(report, outcome));
  return out;
}

// What lies there; null where nothing does.
Json old_record(const Sweep& sweep) {
  const fs::path path = fs::path(sweep.folder) / kScaleFile;
  if (!fs::exists(path)) return nullptr;
  std::ifstream file(path);
  Json out = Json::parse(file, nullptr, false);
  const bool whole = out.is_object() && out.contains("sweep") && out["sweep"].is_object() &&
                     out.contains("runs") && out["runs"].is_array();
  if (whole) return out;
  throw InputError("is no record of a sweep", path, "remove it: the runs beside it are kept");
}

void refuse_other_sweep(const Sweep& sweep, const Json& old) {
  const Json identity = identity_json(sweep);
  for (const auto& [key, value] : identity.items()) {
    const Json found = old["sweep"].value(key, Json());
    if (found == value) continue;
    const std::string what =
        key == "config_hash"
            ? "was made from another CONFIG, or other --set"
            : fmt::format("was made with {} {}, and this is {}", key, found.dump(), value.dump());
    throw InputError("holds a sweep that " + what, sweep.folder, "name another --folder");
  }
}

std::optional<int64_t> old_link_bytes(const Json& old, const ScaleRun& run) {
  if (old.is_null()) return std::nullopt;
  for (const Json& entry : old["runs"]) {
    const bool same = entry.is_object() && entry.value("run", Json()) == run.folder;
    const Json bytes = same ? entry.value("link_sent_bytes", Json()) : Json();
    if (bytes.is_number_integer()) return bytes.get<int64_t>();
  }
  return std::nullopt;
}

std::string move_aside(const std::string& folder) {
  for (int k = 1;; ++k) {
    const std::string to = fmt::format("{}.unfinished-{}", folder, k);
    if (fs::exists(to)) continue;
    std::error_code error;
    fs::rename(folder, to, error);
    if (error) throw Error("cannot be moved aside: " + error.message(), folder);
    return to;
  }
}

// A run of another configuration is somebody's work, and not ours to move.
void refuse_other_config(const std::string& folder, const ScaleRun& run) {
  std::ifstream file(folder + '/' + std::string(kConfigFile), std::ios::binary);
  if (!file) return;
  const std::string found{std::istreambuf_iterator<char>(file), {}};
  if (is_config_of(found, run)) return;
  throw InputError("holds a run of another configuration", folder, "name another --folder");
}

}  // namespace

std::optional<double> efficiency(const ScaleReport& report, const ScaleOutcome& outcome) {
  if (!outcome.figures) return std::nullopt;
  const auto a_rank = [](const ScaleOutcome& o) {
    return o.figures->tokens_per_second / static_cast<double>(o.run.ranks);
  };
  for (const ScaleOutcome& base : report.outcomes) {
    if (!base.figures || base.run.zero_stage != outcome.run.zero_stage) continue;
    return a_rank(outcome) / a_rank(base);
  }
  return std::nullopt;
}

nlohmann::ordered_json scale_json(const ScaleReport& report) {
  const Sweep& sweep = report.sweep;
  const Json identity = identity_json(sweep);
  Json runs = Json::array();
  for (const ScaleOutcome& outcome : report.outcomes) runs.push_back(outcome_json(report, outcome));
  return {{"config", sweep.config},
          {"scaling", name_of(sweep.scaling)},
          {"launch", name_of(sweep.launch)},
          {"link", identity["link"]},
          {"steps", sweep.steps},
          {"warm_up_steps", sweep.warm_up_steps},
          {"sweep", identity},
          {"runs", runs}};
}

void write_scale_json(const ScaleReport& report) {
  write_file_atomically(fmt::format("{}/{}", report.sweep.folder, kScaleFile),
                        scale_json(report).dump(2) + '\n');
}

nlohmann::ordered_json read_scale_json(const std::string& folder) {
  const std::string path = fmt::format("{}/{}", folder, kScaleFile);
  std::ifstream file(path);
  Json out = Json::parse(file, nullptr, false);
  if (out.is_object() && out.value("runs", Json()).is_array()) return out;
  throw InputError("is no JSON object with a list of runs", path,
                   "the file is damaged; name the folders of its runs instead");
}

ScaleReport resume(const Sweep& sweep, const std::function<void(const std::string&)>& say) {
  ScaleReport out{sweep, {}};
  const Json old = old_record(sweep);
  if (!old.is_null()) refuse_other_sweep(sweep, old);
  for (const ScaleRun& run : sweep.runs) {
    const std::string folder = run_path(sweep, run);
    if (fs::exists(folder)) refuse_other_config(folder, run);
  }
  for (const ScaleRun& run : sweep.runs) {
    ScaleOutcome& outcome = out.outcomes.emplace_back();
    outcome.run = run;
    const std::string folder = run_path(sweep, run);
    if (!fs::exists(folder)) continue;
    try {
      outcome.figures = collect(sweep, run);
      outcome.status = ScaleOutcome::Status::kDone;
      outcome.link_bytes = old_link_bytes(old, run);
      say(fmt::format("{}: done already", run.folder));
    } catch (const std::exception& error) {
      const std::string moved = move_aside(folder);
      say(fmt::format("{}: unfinished or damaged, now {}: {}", run.folder,
                      fs::path(moved).filename().string(), error.what()));
    }
  }
  return out;
}

}  // namespace memwall
