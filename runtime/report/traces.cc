#include "runtime/report/traces.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/base/error.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// As runtime/train/trace.cc writes them.
constexpr std::string_view kOther = "\"otherData\": ", kEvents = "\"traceEvents\": [";
constexpr std::string_view kEnd = "\n]}\n";

// The second line of a trace; null where it is none.
Json other_data(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  std::getline(file, line);
  if (!line.starts_with(kOther) || !line.ends_with(',')) return nullptr;
  const std::string text = line.substr(kOther.size(), line.size() - kOther.size() - 1);
  Json out = Json::parse(text, nullptr, false);
  const bool whole = out.is_object() && out.value("plan_hash", Json()).is_string() &&
                     out.value("ranks", Json()).is_number_integer();
  return whole ? out : Json();
}

// What stands between the brackets of its events.
std::string events_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t begin = text.find(kEvents);
  if (begin == std::string::npos || !text.ends_with(kEnd)) {
    throw InputError("is no whole trace", path, "trace the steps again");
  }
  const size_t from = begin + kEvents.size();
  return text.substr(from, text.size() - kEnd.size() - from);
}

}  // namespace

std::string plan_of_trace(const std::string& path) {
  const Json other = other_data(path);
  return other.is_null() ? "" : other["plan_hash"].get<std::string>();
}

std::vector<std::string> trace_files(const std::string& run_folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run_folder + "/trace", error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("rank-") && name.ends_with(".json")) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string merged_traces(const std::string& run_folder) {
  const std::vector<std::string> files = trace_files(run_folder);
  if (files.empty()) {
    throw InputError("has no traces", run_folder, "train with run.trace_steps, as 10-12");
  }
  const Json first = other_data(files[0]);
  if (first.is_null()) throw InputError("is no trace", files[0], "trace the steps again");
  if (!std::cmp_equal(files.size(), first["ranks"].get<int64_t>())) {
    throw InputError(fmt::format("has traces of {} ranks, and the run had {}", files.size(),
                                 first["ranks"].get<int64_t>()),
                     run_folder + "/trace", "copy all ranks' files there");
  }
  std::string out =
      fmt::format("{{\"displayTimeUnit\": \"ns\",\n{}{},\n{}", kOther, first.dump(), kEvents);
  for (const std::string& file : files) {
    const std::string plan = plan_of_trace(file);
    if (plan != first["plan_hash"]) {
      throw InputError(fmt::format("is a trace of plan {}, and {} one of plan {}",
                                   plan.empty() ? "(none)" : plan, files[0],
                                   first["plan_hash"].get<std::string>()),
                       file, "keep the traces of runs apart");
    }
    out += (file == files[0] ? "" : ",") + events_of(file);
  }
  return out + std::string(kEnd);
}

}  // namespace memwall
