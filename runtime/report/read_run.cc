#include "runtime/report/read_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>

#include "runtime/report/traces.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kMostResidentRanks = 8;

std::optional<std::string> contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void read_environment(ReportedRun& run) {
  const std::optional<std::string> text = contents(run.folder + "/environment.json");
  if (!text) {
    run.problems.push_back("environment.json is missing: machine and launch are not known");
    return;
  }
  run.environment = Json::parse(*text, nullptr, false);
  if (!run.environment.is_object()) {
    run.environment = nullptr;
    run.problems.push_back("environment.json is damaged: machine and launch are not known");
    return;
  }
  const Json ranks = run.environment.value("ranks", Json());
  if (ranks.is_number_integer() && ranks.get<int64_t>() > 0) run.ranks = ranks.get<int64_t>();
}

// "plan        NAME, HASH" and "ranks       2, ..." of plan.txt's first lines. The environment's
// count of ranks goes first.
void read_plan(ReportedRun& run) {
  std::ifstream file(run.folder + "/plan.txt");
  if (!file) {
    run.problems.push_back("plan.txt is missing: whether the plan shown is the run's is not known");
    return;
  }
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const size_t comma = line.rfind(", ");
    if (line.starts_with("plan ") && comma != std::string::npos) {
      run.plan_hash = line.substr(comma + 2);
    }
    if (line.starts_with("ranks ") && run.ranks == 0) {
      run.ranks = std::max(0LL, std::atoll(line.c_str() + std::string_view("ranks ").size()));
    }
  }
  if (run.plan_hash.empty()) run.problems.push_back("plan.txt is damaged: it names no plan");
}

int64_t count_lines(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
}

// Of `count` lines, those kept: every k-th, counted from the last.
bool is_kept(int64_t index, int64_t count) {
  const int64_t stride = (count + kMostLines - 1) / kMostLines;
  return (count - 1 - index) % stride == 0;
}

// The kept lines that are objects with a step; the others are problems.
std::vector<Json> read_lines(const std::string& folder, const std::string& name,
                             std::vector<std::string>& problems) {
  const std::string path = folder + '/' + name;
  const int64_t count = count_lines(path);
  std::ifstream file(path);
  std::vector<Json> out;
  int64_t index = 0, bad = 0, first_bad = 0;
  bool torn = false;
  for (std::string text; std::getline(file, text); ++index) {
    if (file.eof()) {
      torn = true;
      break;
    }
    if (!is_kept(index, count)) continue;
    Json line = Json::parse(text, nullptr, false);
    if (line.is_object() && line.value("step", Json()).is_number_integer()) {
      out.push_back(std::move(line));
    } else if (bad++ == 0) {
      first_bad = index + 1;
    }
  }
  if (bad > 0) {
    problems.push_back(
        fmt::format("{}:{}: {} no JSON of a step; left out", name, first_bad,
                    bad == 1 ? "the line is" : fmt::format("this and {} more lines are", bad - 1)));
  }
  if (torn) problems.push_back(name + " ends within a line: the run was cut off; left out");
  if (index > kMostLines) {
    problems.push_back(fmt::format("{} has {} lines, of which one in {} is shown", name, index,
                                   (count + kMostLines - 1) / kMostLines));
  }
  return out;
}

Json at_path(const Json& line, std::initializer_list<const char*> path) {
  const Json* here = &line;
  for (const char* key : path) {
    if (!here->is_object() || !here->contains(key)) return nullptr;
    here = &(*here)[key];
  }
  return *here;
}

Json sum_of_wire_bytes(const Json& line, const char* side) {
  const Json traffic = at_path(line, {side, "traffic"});
  if (!traffic.is_object()) return nullptr;
  int64_t sum = 0;
  for (const auto& [name, part] : traffic.items()) {
    const Json bytes = at_path(part, {"wire_bytes"});
    if (bytes.is_number_integer()) sum += bytes.get<int64_t>();
  }
  return sum;
}

Json columns_of(const std::vector<Json>& lines) {
  Json out = Json::object();
  constexpr std::array kPlain = {"step",
                                 "loss",
                                 "grad_norm",
                                 "lr",
                                 "loss_scale",
                                 "skipped",
                                 "step_seconds",
                                 "tokens_per_second",
                                 "model_flops_utilisation"};
  std::vector<std::string> seconds;
  for (const Json& line : lines) {
    const Json split = at_path(line, {"measured", "seconds"});
    if (!split.is_object()) continue;
    for (const auto& [name, value] : split.items()) {
      if (std::find(seconds.begin(), seconds.end(), name) == seconds.end()) seconds.push_back(name);
    }
  }
  for (const char* key : kPlain) out[key] = Json::array();
  for (const char* key : {"memory_peak", "rss_anon", "wire_bytes", "hessian_trace"}) {
    out[key] = Json::array();
  }
  out["seconds"] = Json::object();
  for (const std::string& name : seconds) out["seconds"][name] = Json::array();
  for (const Json& line : lines) {
    for (const char* key : kPlain) out[key].push_back(at_path(line, {key}));
    out["memory_peak"].push_back(at_path(line, {"measured", "memory", "peak"}));
    out["rss_anon"].push_back(at_path(line, {"measured", "memory", "rss_anon"}));
    out["wire_bytes"].push_back(sum_of_wire_bytes(line, "measured"));
    out["hessian_trace"].push_back(at_path(line, {"hessian", "trace"}));
    for (const std::string& name : seconds) {
      out["seconds"][name].push_back(at_path(line, {"measured", "seconds", name.c_str()}));
    }
  }
  return out;
}

// Measured bytes of the arena and of the whole process: the lines on both sides of each change.
Json resident_of(const std::vector<Json>& lines) {
  Json out = {{"step", Json::array()}, {"arena", Json::array()}, {"process", Json::array()}};
  const auto bytes = [](const Json& line) {
    return std::pair{at_path(line, {"measured", "memory", "peak"}),
                     at_path(line, {"measured", "memory", "rss_anon"})};
  };
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto here = bytes(lines[i]);
    const bool inside = i > 0 && i + 1 < lines.size();
    if (inside && bytes(lines[i - 1]) == here && bytes(lines[i + 1]) == here) continue;
    out["step"].push_back(lines[i]["step"]);
    out["arena"].push_back(here.first);
    out["process"].push_back(here.second);
  }
  return out;
}

Json median_of(std::vector<double> values) {
  if (values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2.0;
}

Json typical_of(const std::vector<Json>& lines, int64_t warm_up) {
  const auto median = [&](std::initializer_list<const char*> path) {
    std::vector<double> values;
    for (auto i = static_cast<size_t>(warm_up); i < lines.size(); ++i) {
      const Json value = at_path(lines[i], path);
      if (value.is_number()) values.push_back(value.get<double>());
    }
    return median_of(std::move(values));
  };
  Json out = {{"left_out", warm_up},
              {"step_seconds", median({"step_seconds"})},
              {"tokens_per_second", median({"tokens_per_second"})},
              {"utilisation", median({"model_flops_utilisation"})},
              {"seconds", Json::object()}};
  const Json split = at_path(lines.back(), {"measured", "seconds"});
  if (!split.is_object()) return out;
  for (const auto& [name, value] : split.items()) {
    out["seconds"][name] = median({"measured", "seconds", name.c_str()});
  }
  return out;
}

void read_metrics(ReportedRun& run, WarmUp warm_up) {
  std::map<int64_t, std::string> files;  // by rank
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run.folder + "/metrics", error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("rank-") || !name.ends_with(".jsonl")) continue;
    files[std::atoll(name.c_str() + 5)] = "metrics/" + name;
  }
  if (run.ranks == 0 && !files.empty()) run.ranks = files.rbegin()->first + 1;
  for (int64_t rank = 0; rank < run.ranks; ++rank) {
    if (!files.contains(rank)) {
      run.problems.push_back(
          fmt::format("metrics/rank-{:05}.jsonl is missing: rank {} wrote no "
                      "metrics, or they were lost",
                      rank, rank));
      continue;
    }
    const std::vector<Json> lines = read_lines(run.folder, files[rank], run.problems);
    if (lines.empty()) {
      run.problems.push_back(files[rank] + " holds no step");
      continue;
    }
    int64_t as_planned = 0;
    for (const Json& line : lines) {
      as_planned += at_path(line, {"planned", "traffic"}) == at_path(line, {"measured", "traffic"});
    }
    const auto count = static_cast<int64_t>(lines.size());
    run.rank_table.push_back({{"rank", rank},
                              {"lines", count},
                              {"last_step", lines.back()["step"]},
                              {"planned", at_path(lines.back(), {"planned"})},
                              {"measured", at_path(lines.back(), {"measured"})},
                              {"traffic_as_planned", as_planned},
                              {"typical", typical_of(lines, warm_up(count))}});
    if (rank < kMostResidentRanks) run.rank_table.back()["resident"] = resident_of(lines);
    if (!run.steps.is_null()) continue;
    run.steps = columns_of(lines);
    run.steps["rank"] = rank;
    run.last_step = lines.back()["step"].get<int64_t>();
  }
  if (run.rank_table.empty()) run.problems.push_back("no rank has finished a step");
  for (const Json& rank : run.rank_table) {
    if (rank["last_step"].get<int64_t>() == run.last_step) continue;
    run.problems.push_back(fmt::format(
        "rank {} ends at step {}, where rank {} ends at {}", rank["rank"].get<int64_t>(),
        rank["last_step"].get<int64_t>(), run.steps["rank"].get<int64_t>(), run.last_step));
  }
}

}  // namespace

ReportedRun read_reported_run(const std::string& folder, WarmUp warm_up) {
  ReportedRun run;
  run.folder = folder;
  const std::optional<std::string> config = contents(folder + "/config.textproto");
  if (config) run.config_text = *config;
  if (run.config_text.empty())
    run.problems.push_back("config.textproto cannot be read, or is empty");
  read_environment(run);
  read_plan(run);
  read_metrics(run, warm_up);
  for (const std::string& file : trace_files(folder)) {
    const std::string plan = plan_of_trace(file);
    if (plan == run.plan_hash) continue;
    run.problems.push_back(fmt::format("{} is {}, not of this run's plan",
                                       fs::path(file).lexically_relative(folder).string(),
                                       plan.empty() ? "no trace" : "a trace of plan " + plan));
  }
  if (fs::exists(folder + "/validation.jsonl")) {
    run.validation = read_lines(folder, "validation.jsonl", run.problems);
  }
  return run;
}

std::vector<std::pair<std::string, std::string>> flat_config(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> out;
  std::vector<std::string> path;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    line.erase(0, line.find_first_not_of(" \t"));
    if (line.ends_with('{')) {
      path.push_back(line.substr(0, line.find_first_of(" :{")));
    } else if (line == "}") {
      if (!path.empty()) path.pop_back();
    } else if (const size_t colon = line.find(": "); colon != std::string::npos) {
      out.emplace_back(fmt::format("{}{}{}", fmt::join(path, "."), path.empty() ? "" : ".",
                                   line.substr(0, colon)),
                       line.substr(colon + 2));
    }
  }
  return out;
}

}  // namespace memwall
