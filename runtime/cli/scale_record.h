// scale.json: what a sweep has come to so far, and what of it an interrupted one can keep.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/cli/scale_figures.h"
#include "runtime/cli/scale_sweep.h"

namespace memwall {

constexpr std::string_view kScaleFile = "scale.json";

struct ScaleOutcome {
  ScaleRun run;
  enum class Status { kMissing, kDone, kFailed } status = Status::kMissing;
  std::string error;                    // of a failed one
  std::optional<ScaleFigures> figures;  // of one that is done
  std::optional<int64_t> link_bytes;    // sent by the first host's interface over the whole run
};

struct ScaleReport {
  Sweep sweep;
  std::vector<ScaleOutcome> outcomes;  // stage by stage, ranks ascending
};

// Tokens a second and rank against the stage's smallest count that is done: weak scaling's
// efficiency, and strong scaling's speed-up over the ratio of ranks. nullopt where it is not done.
std::optional<double> efficiency(const ScaleReport& report, const ScaleOutcome& outcome);

nlohmann::ordered_json scale_json(const ScaleReport& report);
void write_scale_json(const ScaleReport& report);

// The record in a sweep's folder: {"runs": [...], ...}. InputError where it is damaged.
nlohmann::ordered_json read_scale_json(const std::string& folder);

// What of `sweep` lies in its folder. Runs that are done are kept, unfinished and damaged ones are
// moved aside, to NAME.unfinished-K, and `say` gets a line for each. InputError where the folder
// holds another sweep.
ScaleReport resume(const Sweep& sweep, const std::function<void(const std::string&)>& say);

}  // namespace memwall
