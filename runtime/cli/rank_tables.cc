#include "runtime/cli/rank_tables.h"

#include <fmt/format.h>

#include <algorithm>
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

}  // namespace

std::string last_metrics_line(const std::string& path) {
  std::ifstream file(path);
  std::string line, last;
  while (std::getline(file, line)) {
    if (!file.eof() && !line.empty()) last = std::exchange(line, {});
  }
  return last;
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
