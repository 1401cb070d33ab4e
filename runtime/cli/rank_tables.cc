#include "runtime/cli/rank_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <fstream>
#include <span>
#include <utility>

#include "runtime/cli/tables.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kRanksAcross = 3;  // side by side, for a screen of 100 columns

// Numbers below an object as (path, number): {"a": {"b": 1}} is ("a b", 1). Keys in `left_out` and
// what lies below them do not count.
void flatten(const Json& object, const std::string& prefix,
             std::span<const std::string_view> left_out,
             std::vector<std::pair<std::string, int64_t>>& out) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(left_out.begin(), left_out.end(), key) != left_out.end()) continue;
    const std::string path = prefix.empty() ? key : prefix + ' ' + key;
    if (value.is_object()) flatten(value, path, left_out, out);
    if (value.is_number()) out.emplace_back(path, value.get<int64_t>());
  }
}

using Column = std::vector<std::pair<std::string, int64_t>>;

Column column(const Json& line, const char* side, const char* part) {
  constexpr std::string_view left_out[] = {"maximum", "page_bytes"};
  Column out;
  flatten(line.value(side, Json::object()).value(part, Json::object()), "", left_out, out);
  return out;
}

std::string cell(const Column& column, const std::string& name) {
  for (const auto& [key, value] : column) {
    if (key == name) return name.ends_with("calls") ? count_text(value) : bytes_text(value);
  }
  return "";
}

std::string table(const std::string& title, const char* part, std::span<const Json> lines,
                  size_t first_rank) {
  std::vector<std::string> header = {title};
  std::vector<Column> columns;
  std::vector<std::string> names;  // of any column, in the order in which they come
  for (size_t i = 0; i < lines.size(); ++i) {
    for (const char* side : {"planned", "measured"}) {
      header.push_back(fmt::format("{} {}", first_rank + i, side));
      columns.push_back(column(lines[i], side, part));
      for (const auto& [name, value] : columns.back()) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    }
  }
  TextTable out(header);
  for (const std::string& name : names) {
    std::vector<std::string> row = {name};
    for (const Column& c : columns) row.push_back(cell(c, name));
    out.add(std::move(row));
  }
  return out.text();
}

// The last complete lines of a file, at most `count`.
std::deque<std::string> last_lines(const std::string& path, size_t count) {
  std::ifstream file(path);
  std::deque<std::string> last;
  for (std::string line; std::getline(file, line);) {
    if (file.eof() || line.empty()) continue;
    last.push_back(std::exchange(line, {}));
    if (last.size() > count) last.pop_front();
  }
  return last;
}

struct Part {
  std::string_view name, title;
};
constexpr std::array<Part, 7> kParts = {{{"compute", "compute"},
                                         {"progress", "progress"},
                                         {"exposed_communication", "exposed"},
                                         {"wait", "wait"},
                                         {"update", "update"},
                                         {"input", "input"},
                                         {"other", "other"}}};

}  // namespace

std::string last_metrics_line(const std::string& path) {
  const std::deque<std::string> lines = last_lines(path, 1);
  return lines.empty() ? "" : lines.front();
}

Json mean_seconds(const std::string& metrics_path) {
  const auto pointer = Json::json_pointer("/measured/seconds");
  Json sum = Json::object();
  int64_t steps = 0;
  for (const std::string& line : last_lines(metrics_path, kMeanSteps)) {
    const Json parsed = Json::parse(line, nullptr, false);
    if (!parsed.is_object() || !parsed.contains(pointer)) return {};
    const Json& seconds = parsed.at(pointer);
    for (const Part& part : kParts) {
      if (!seconds.contains(part.name)) return {};
    }
    ++steps;
    for (const auto& [name, value] : seconds.items()) {
      sum[name] = sum.value(name, 0.0) + value.get<double>();
    }
  }
  if (steps == 0) return {};
  for (auto& value : sum) value = value.get<double>() / static_cast<double>(steps);
  sum["steps"] = steps;
  return sum;
}

std::string seconds_table(const std::vector<Json>& seconds) {
  const bool all =
      std::none_of(seconds.begin(), seconds.end(), [](const Json& rank) { return rank.is_null(); });
  if (seconds.empty() || !all) return "";
  const auto steps = seconds.front().at("steps").get<int64_t>();
  std::vector<std::string> header = {
      steps == 1 ? "last step, by rank" : fmt::format("last {} steps, by rank", steps), "seconds"};
  for (const Part& part : kParts) header.emplace_back(part.title);
  TextTable out(header);
  for (size_t rank = 0; rank < seconds.size(); ++rank) {
    const double total = seconds[rank].at("total").get<double>();
    std::vector<std::string> row = {std::to_string(rank), fmt::format("{:.4g}", total)};
    for (const Part& part : kParts) {
      const double share = seconds[rank].at(std::string(part.name)).get<double>() / total;
      row.push_back(fmt::format("{:.1f} %", 100.0 * share));
    }
    out.add(std::move(row));
  }
  return out.text();
}

std::string rank_tables(const std::vector<Json>& lines) {
  std::string out;
  for (size_t first = 0; first < lines.size(); first += kRanksAcross) {
    const size_t count = std::min(kRanksAcross, lines.size() - first);
    const std::span<const Json> across(lines.data() + first, count);
    if (!out.empty()) out += '\n';
    out += table("memory, by rank", "memory", across, first) + '\n';
    out += table("traffic a step, by rank", "traffic", across, first);
  }
  return out;
}

}  // namespace memwall
