// `memwall show`: the final tables of a run again.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <vector>

#include "runtime/cli/rank_tables.h"
#include "runtime/cli/run_folder.h"
#include "runtime/cli/verbs.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

Json last_object(const std::string& path) {
  const std::string line = last_metrics_line(path);
  if (line.empty()) throw InputError("holds no complete line yet", path);
  try {
    return Json::parse(line);
  } catch (const Json::parse_error&) {
    throw InputError("its last line is not a JSON object", path, "the file is damaged");
  }
}

}  // namespace

ExitCode show_verb(const ShowOptions& options) {
  const std::string run = find_run(options.run);
  std::vector<Json> ranks;
  for (int64_t rank = 0; std::filesystem::exists(metrics_path(run, rank)); ++rank) {
    ranks.push_back(last_object(metrics_path(run, rank)));
  }
  if (ranks.empty()) throw InputError("has no metrics yet", run, "no step was finished");
  const std::string validation = last_metrics_line(run + "/validation.jsonl");
  Json summary = {{"run", run}};
  for (const char* key : {"step", "loss"}) summary[key] = ranks[0].value(key, Json());
  if (!validation.empty()) summary["validation"] = Json::parse(validation);
  if (options.json) {
    summary["ranks"] = ranks;
    fmt::print("{}\n", summary.dump(2));
    return ExitCode::kDone;
  }
  fmt::print("{}\nstep {}, loss {}", run, summary["step"].dump(), summary["loss"].dump());
  if (!validation.empty()) {
    const Json& v = summary["validation"];
    fmt::print(", validation loss {} after step {}", v.value("loss", Json()).dump(),
               v.value("step", Json()).dump());
  }
  fmt::print("\n\n{}", rank_tables(ranks));
  std::vector<Json> seconds;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    seconds.push_back(mean_seconds(metrics_path(run, static_cast<int64_t>(rank))));
  }
  const std::string times = seconds_table(seconds);
  if (!times.empty()) fmt::print("\n{}", times);
  return ExitCode::kDone;
}

}  // namespace memwall
