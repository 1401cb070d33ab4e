#include "tests/style/rules.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

namespace memwall::test {
namespace {

namespace fs = std::filesystem;

// The table of rooms: what each may include beside itself. What those may include, it may too.
// "configs" is the code that protobuf generates from the schema.
const std::map<std::string_view, std::vector<std::string_view>>& rooms() {
  static const std::map<std::string_view, std::vector<std::string_view>> table = {
      {"configs", {}},
      {"runtime/base", {}},
      {"runtime/config", {"runtime/base", "configs"}},
      {"memory", {"runtime/base"}},
      {"comm", {"runtime/base"}},
      {"runtime/cost", {"runtime/base"}},
      {"runtime/kernels", {"runtime/base"}},
      {"runtime/graph", {"runtime/base"}},
      {"runtime/plan", {"runtime/base"}},
      {"optim", {"runtime/graph"}},
      {"runtime/model", {"runtime/graph"}},
      {"runtime/passes", {"runtime/graph", "optim", "memory", "runtime/plan", "runtime/cost"}},
      {"runtime/exec", {"runtime/plan", "runtime/kernels", "memory", "comm"}},
      {"runtime/sim", {"runtime/plan", "runtime/cost"}},
      {"runtime/data", {"runtime/base"}},
      {"runtime/train", {"runtime/exec", "runtime/data", "runtime/config", "optim"}},
      {"runtime/report", {"runtime/plan"}},
      {"runtime/launch", {"runtime/base"}},
      {"runtime/cli",
       {"runtime/train", "runtime/passes", "runtime/model", "runtime/sim", "runtime/config",
        "runtime/report", "runtime/launch"}},
  };
  return table;
}

void add_reachable(std::string_view room, std::set<std::string_view>& reached) {
  if (!reached.insert(room).second) return;
  for (std::string_view below : rooms().at(room)) add_reachable(below, reached);
}

template <class Check>  // check(line) -> what is wrong with it, or ""
Findings by_line(const SourceFile& file, Check check) {
  Findings findings;
  std::istringstream lines(file.text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string wrong = check(line);
    if (!wrong.empty()) {
      findings.push_back(file.path + ":" + std::to_string(number) + ": " + wrong);
    }
  }
  return findings;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

// The path in a line `#include "path"`, else empty.
std::string_view quoted_include(std::string_view line) {
  const auto skip_spaces = [&line] {
    while (!line.empty() && (line[0] == ' ' || line[0] == '\t')) line.remove_prefix(1);
  };
  for (std::string_view token : {"#", "include", "\""}) {
    skip_spaces();
    if (!line.starts_with(token)) return {};
    line.remove_prefix(token.size());
  }
  return line.substr(0, line.find('"'));
}

std::string include_wrong(std::string_view from, std::string_view included) {
  const std::string quoted = "\"" + std::string(included) + "\"";
  const bool is_generated = included.ends_with(".pb.h");
  const std::string_view to = is_generated ? "configs" : room_of(included);
  if (to.empty() && included.starts_with("runtime/")) {
    return quoted + " lies in no room of the table (tests/style/rules.cc)";
  }
  if (to.empty() && !included.starts_with("tests/") && !included.starts_with("examples/")) {
    return quoted + " does not name the file from the repository's root";
  }
  if (from.empty()) return "";  // tests and examples may use everything
  if (to.empty()) return std::string(from) + " may not include " + quoted;
  std::set<std::string_view> reached;
  add_reachable(from, reached);
  if (reached.contains(to)) return "";
  return std::string(from) + " may not include " + std::string(to) + " (" + quoted + ")";
}

// What the include path finds for the target: runtime/kernels/cpu/NAME or .../cuda/NAME.
bool is_twin(std::string_view room, std::string_view included) {
  return room == "runtime/kernels" &&
         (included == "registers.h" || included == "moves.h" || included == "launch.h");
}

}  // namespace

std::vector<SourceFile> source_files(const fs::path& root,
                                     const std::vector<std::string>& endings) {
  std::vector<SourceFile> files;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::end(it); ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory()) {
      const bool ignored =
          it.depth() == 0 && (name.starts_with("build") || name == "runs" || name == "data");
      if (ignored || name.starts_with(".")) it.disable_recursion_pending();
      continue;
    }
    const bool wanted = std::any_of(endings.begin(), endings.end(),
                                    [&name](const auto& ending) { return name.ends_with(ending); });
    if (!wanted || !it->is_regular_file()) continue;
    std::ifstream stream(it->path(), std::ios::binary);
    files.push_back({it->path().lexically_relative(root).generic_string(),
                     std::string(std::istreambuf_iterator<char>(stream), {})});
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

std::string_view room_of(std::string_view path) {
  for (const auto& [room, below] : rooms()) {
    if (path.starts_with(room) && path.substr(room.size()).starts_with("/")) return room;
  }
  return {};
}

Findings include_findings(const SourceFile& file) {
  const std::string_view from = room_of(file.path);
  if (from.empty() && file.path.starts_with("runtime/")) {
    return {file.path + ":1: lies in no room of the table (tests/style/rules.cc)"};
  }
  return by_line(file, [from](std::string_view line) -> std::string {
    const std::string_view included = quoted_include(line);
    return included.empty() || is_twin(from, included) ? "" : include_wrong(from, included);
  });
}

Findings executor_word_findings(const SourceFile& file) {
  if (!file.path.starts_with("runtime/exec/")) return {};
  return by_line(file, [](std::string_view line) -> std::string {
    for (std::string_view word : {"stage", "policy", "optimizer"}) {
      if (lower(line).find(word) != std::string::npos) {
        return "the executor knows no \"" + std::string(word) + "\"";
      }
    }
    return "";
  });
}

Findings length_findings(const SourceFile& file) {
  const auto lines = std::count(file.text.begin(), file.text.end(), '\n');
  if (lines <= kMaxLines) return {};
  return {file.path + ":" + std::to_string(lines) + ": longer than " + std::to_string(kMaxLines) +
          " lines"};
}

Findings leftover_findings(const SourceFile& file) {
  return by_line(file, [](std::string_view line) -> std::string {
    // Written in two parts, for this file is checked too.
    for (std::string_view word : {"TO"
                                  "DO",
                                  "FIX"
                                  "ME"}) {
      if (line.find(word) != std::string_view::npos) return std::string(word);
    }
    return "";
  });
}

}  // namespace memwall::test
