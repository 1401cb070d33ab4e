// Predictions beside real runs: what `memwall simulate --against` adds.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/cli/predict.h"

namespace memwall {

struct Compared {
  std::vector<RunPrediction> runs;
  struct NotCompared {
    std::string run, reason;
  };
  std::vector<NotCompared> others;  // named, but the machine cannot have made them
};

// The run folders that the arguments name, each once: a run itself, or all runs of a folder of
// `memwall scale`. InputError where an argument is neither.
std::vector<std::string> runs_of(const std::vector<std::string>& arguments);

// Each run by its own configuration.
Compared compare(const std::vector<std::string>& runs, const Machine& machine);

// A list, in the order of `compared`: {run, ranks, zero_stage, parameters, steps,
// predicted_seconds, measured_seconds, error}, then {run, problem}.
nlohmann::ordered_json compared_json(const Compared& compared);
nlohmann::ordered_json errors_json(const Compared& compared);  // {runs, median, largest}
std::string compared_text(const Compared& compared);           // lines

}  // namespace memwall
