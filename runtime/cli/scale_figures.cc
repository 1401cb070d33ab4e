#include "runtime/cli/scale_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>

#include "runtime/cli/cores.h"
#include "runtime/cli/predict.h"
#include "runtime/cli/run_folder.h"
#include "runtime/cli/samples.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Lines of the counted steps, rank by rank.
using Lines = std::vector<std::vector<Json>>;

Lines counted_lines(const Sweep& sweep, const RunRecord& record) {
  Lines out;
  for (int64_t rank = 0; rank < record.ranks; ++rank) {
    std::ifstream file(metrics_path(record.folder, rank));
    std::vector<Json>& mine = out.emplace_back();
    for (std::string line; std::getline(file, line);) {
      Json json = Json::parse(line, nullptr, false);
      if (json.is_object() && json.value("step", int64_t{0}) > sweep.warm_up_steps) {
        mine.push_back(std::move(json));
      }
    }
  }
  return out;
}

const Json& part_of(const Json& line, const char* side, const char* part) {
  static const Json nothing = Json::object();
  const auto found = line.find(side);
  if (found == line.end() || !found->contains(part)) return nothing;
  return (*found)[part];
}

// Of a step the mean over the ranks, of the steps the median.
void add_seconds(const Lines& lines, ScaleFigures& out) {
  for (const auto& [name, value] : part_of(lines[0][0], "measured", "seconds").items()) {
    if (name == "total" || name == "micro_steps" || !value.is_number()) continue;
    Samples steps;
    bool everywhere = true;
    for (size_t step = 0; step < lines[0].size() && everywhere; ++step) {
      double sum = 0.0;
      for (const std::vector<Json>& rank : lines) {
        const Json& seconds = part_of(rank.at(step), "measured", "seconds");
        everywhere = everywhere && seconds.contains(name) && seconds[name].is_number();
        if (everywhere) sum += seconds[name].get<double>();
      }
      steps.add(sum / static_cast<double>(lines.size()));
    }
    if (everywhere) out.seconds.emplace_back(name, steps.median());
  }
}

int64_t median_count(std::vector<int64_t> counts) {
  std::sort(counts.begin(), counts.end());
  return counts[(counts.size() - 1) / 2];
}

// Steps that measure curvature send more than others: the median of each number.
Json traffic_of(const std::vector<Json>& lines, const char* side, int64_t& wire) {
  Json out = part_of(lines.back(), side, "traffic");
  wire = 0;
  for (auto& [collective, numbers] : out.items()) {
    for (auto& [name, number] : numbers.items()) {
      std::vector<int64_t> counts;
      for (const Json& line : lines) {
        const Json& all = part_of(line, side, "traffic");
        if (all.contains(collective) && all[collective].contains(name)) {
          counts.push_back(all[collective][name].get<int64_t>());
        }
      }
      number = median_count(counts);
      if (name == "wire_bytes") wire += number.get<int64_t>();
    }
  }
  return out;
}

int64_t largest_peak(const Lines& lines, const char* side) {
  int64_t out = 0;
  for (const std::vector<Json>& rank : lines) {
    out = std::max(out, part_of(rank.back(), side, "memory").value("peak", int64_t{0}));
  }
  return out;
}

// environment.json has "NAME cores=2 threads=1" for each rank.
int64_t number_after(const std::string& text, std::string_view word) {
  const size_t at = text.find(word);
  return at == std::string::npos ? 0 : std::atoll(text.c_str() + at + word.size());
}

void add_hosts(const Sweep& sweep, const RunRecord& record, const ScaleRun& run,
               ScaleFigures& out) {
  const Json environment =
      Json::parse(text_of(record.folder + '/' + std::string(kEnvironmentFile)));
  std::map<std::string, int64_t> ranks_on;
  int64_t cores = 0;
  for (const Json& rank : environment.value("hosts", Json::array())) {
    const std::string text = rank.get<std::string>();
    ++ranks_on[text.substr(0, text.find(' '))];
    out.threads = std::max(out.threads, number_after(text, " threads="));
    cores = std::max(cores, number_after(text, " cores="));
  }
  const bool one_machine = sweep.launch == Launch::kNamespaces;
  if (one_machine) cores = static_cast<int64_t>(allowed_cores().size());
  out.oversubscribed = out.threads * (one_machine ? run.ranks : run.placement.ranks_a_host) > cores;
  out.hosts = static_cast<int64_t>(ranks_on.size());
  for (const auto& [host, ranks] : ranks_on) {
    if (out.hosts == run.placement.hosts && ranks == run.placement.ranks_a_host) continue;
    throw InputError(
        fmt::format("its ranks were on {} host(s), {} of them on {}; they were to be "
                    "on {}, {} on each",
                    out.hosts, ranks, host, run.placement.hosts, run.placement.ranks_a_host),
        record.folder);
  }
}

}  // namespace

std::optional<double> ScaleFigures::part(std::string_view name) const {
  for (const auto& [key, value] : seconds) {
    if (key == name) return value;
  }
  return std::nullopt;
}

std::optional<double> ScaleFigures::bus_bandwidth() const {
  const double communication = part("communication").value_or(0.0);
  if (communication <= 0.0 || measured_wire == 0) return std::nullopt;
  return static_cast<double>(measured_wire) / communication;
}

std::string run_path(const Sweep& sweep, const ScaleRun& run) {
  return sweep.folder + '/' + run.folder;
}

ScaleFigures collect(const Sweep& sweep, const ScaleRun& run) {
  const std::string folder = run_path(sweep, run);
  const std::string config_file = folder + '/' + std::string(kConfigFile);
  if (holds_run(folder) && !is_config_of(text_of(config_file), run)) {
    throw InputError("is a run of another configuration", folder);
  }
  const RunRecord record = read_run(folder);
  const auto steps = static_cast<int64_t>(record.steps.size());
  if (steps != sweep.steps || record.ranks != run.ranks || record.steps.back() != sweep.steps) {
    throw InputError(fmt::format("has {} of {} steps, on {} of {} ranks", steps, sweep.steps,
                                 record.ranks, run.ranks),
                     folder);
  }
  ScaleFigures out;
  add_hosts(sweep, record, run, out);
  Samples seconds;
  for (size_t i = static_cast<size_t>(sweep.warm_up_steps); i < record.step_seconds.size(); ++i) {
    seconds.add(record.step_seconds[i]);
  }
  out.step_seconds = seconds.median();
  out.tokens_per_second = static_cast<double>(run.tokens) / out.step_seconds;
  const Lines lines = counted_lines(sweep, record);
  add_seconds(lines, out);
  out.planned_traffic = traffic_of(lines[0], "planned", out.planned_wire);
  out.measured_traffic = traffic_of(lines[0], "measured", out.measured_wire);
  out.planned_peak = largest_peak(lines, "planned");
  out.measured_peak = largest_peak(lines, "measured");
  const Json loss = lines[0].back().value("loss", Json());
  out.loss = loss.is_number() ? loss.get<double>() : std::numeric_limits<double>::quiet_NaN();
  return out;
}

ScalePrediction predict(const std::string& run_folder, const config::Cluster& cluster,
                        const std::string& cluster_file) {
  const RunPrediction found = predict_run(run_folder, cluster, cluster_file);
  return {found.predicted_seconds, found.predicted.seconds.exposed_communication(), found.error()};
}

}  // namespace memwall
