// What a run folder says of its run, for the page's JSON. Whatever is missing or damaged is named
// in `problems`, and the rest is read.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace memwall {

struct ReportedRun {
  std::string folder;  // as the user named it
  std::vector<std::string> problems;
  std::string config_text;  // config.textproto
  int64_t ranks = 0;        // 0: nothing says how many
  std::string plan_hash;    // as plan.txt has it, or ""
  int64_t last_step = 0;    // of the rank whose steps are shown

  // environment.json, or null.
  nlohmann::ordered_json environment;
  // {"rank", "step": [...], "loss": [...], ..., "seconds": {"compute": [...], ...}}: columns of the
  // first rank that has a file, numbers as they stand there; null where a line lacks one.
  nlohmann::ordered_json steps;
  // One of each rank: {"rank", "lines", "last_step", "planned", "measured" (of the last line),
  // "traffic_as_planned" (lines), "resident": {"step", "arena", "process"} (columns of measured
  // bytes where they change, and of the last line; of few ranks), "typical": {"step_seconds",
  // "tokens_per_second", "utilisation", "seconds": {...}}}: medians of the lines after the warm-up.
  nlohmann::ordered_json rank_table = nlohmann::ordered_json::array();
  nlohmann::ordered_json validation = nlohmann::ordered_json::array();  // lines
};

// So many lines of a rank are kept at most, evenly spread, the last one among them.
constexpr int64_t kMostLines = 2000;

// How many of a run's first lines medians leave out.
using WarmUp = int64_t (*)(int64_t lines);

// `folder` exists and holds config.textproto.
ReportedRun read_reported_run(const std::string& folder, WarmUp warm_up);

// "model.num_layers" and "4": the fields of a configuration in text format, in the file's order.
std::vector<std::pair<std::string, std::string>> flat_config(const std::string& text);

}  // namespace memwall
