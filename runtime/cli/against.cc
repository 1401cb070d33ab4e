#include "runtime/cli/against.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "runtime/cli/machine.h"
#include "runtime/cli/run_folder.h"
#include "runtime/cli/scale_record.h"
#include "runtime/cli/tables.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Of scale.json, in its order; those that were never started are left out.
std::vector<std::string> runs_of_sweep(const std::string& folder) {
  const Json scale = read_scale_json(folder);
  std::vector<std::string> out;
  for (const Json& entry : scale["runs"]) {
    if (!entry.is_object() || !entry.value("run", Json()).is_string()) continue;
    const std::string run = (fs::path(folder) / entry["run"].get<std::string>()).string();
    if (holds_run(run) || entry.value("status", Json()) == "done") out.push_back(run);
  }
  return out;
}

}  // namespace

std::vector<std::string> runs_of(const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  std::set<fs::path> known;
  const auto add = [&](const std::string& run) {
    if (known.insert(fs::weakly_canonical(run)).second) out.push_back(run);
  };
  for (const std::string& argument : arguments) {
    if (holds_run(argument)) {
      add(argument);
    } else if (fs::exists(fs::path(argument) / kScaleFile)) {
      for (const std::string& run : runs_of_sweep(argument)) add(run);
    } else {
      throw InputError(fmt::format("is neither a run folder nor one of memwall scale: it has no {} "
                                   "and no {}",
                                   kConfigFile, kScaleFile),
                       fmt::format("--against {}", argument),
                       "name a folder that memwall train or scale made");
    }
  }
  return out;
}

Compared compare(const std::vector<std::string>& runs, const Machine& machine) {
  Compared out;
  for (const std::string& run : runs) {
    try {
      out.runs.push_back(predict_run(run, machine));
    } catch (const Error& error) {
      out.others.push_back({run, error.what()});
    }
  }
  return out;
}

nlohmann::ordered_json compared_json(const Compared& compared) {
  Json out = Json::array();
  for (const RunPrediction& run : compared.runs) {
    out.push_back({{"run", run.folder},
                   {"ranks", run.ranks},
                   {"zero_stage", run.zero_stage},
                   {"parameters", run.parameters},
                   {"steps", run.steps},
                   {"predicted_seconds", exact(run.predicted_seconds)},
                   {"measured_seconds", exact(run.measured_seconds)},
                   {"error", exact(run.error())}});
  }
  for (const Compared::NotCompared& other : compared.others) {
    out.push_back({{"run", other.run}, {"problem", other.reason}});
  }
  return out;
}

nlohmann::ordered_json errors_json(const Compared& compared) {
  Json out = {{"runs", compared.runs.size()}, {"median", nullptr}, {"largest", nullptr}};
  if (compared.runs.empty()) return out;
  const PredictionErrors errors = errors_of(compared.runs);
  out["median"] = exact(errors.median);
  out["largest"] = exact(errors.largest);
  return out;
}

std::string compared_text(const Compared& compared) {
  std::string out;
  if (!compared.runs.empty()) {
    TextTable table({"run", "ranks", "stage", "predicted", "measured", "error"});
    for (const RunPrediction& run : compared.runs) {
      table.add({run.folder, std::to_string(run.ranks), std::to_string(run.zero_stage),
                 seconds_text(run.predicted_seconds), seconds_text(run.measured_seconds),
                 fmt::format("{:+.1f} %", 100.0 * run.error())});
    }
    const PredictionErrors errors = errors_of(compared.runs);
    out += fmt::format(
        "{}\nA step of each run by its own configuration, beside the median that was measured:\n"
        "the error is {:.1f} % in the median of {} run{}, {:.1f} % at most.\n",
        table.text(), 100.0 * errors.median, compared.runs.size(),
        compared.runs.size() == 1 ? "" : "s", 100.0 * errors.largest);
  }
  for (const Compared::NotCompared& other : compared.others) {
    out += fmt::format("{}: not compared: {}\n", other.run, other.reason);
  }
  return out;
}

}  // namespace memwall
