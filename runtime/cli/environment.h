// What a run ran on: environment.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/cli/job.h"

namespace memwall {

// Collective; equal on all ranks but for "rank".
nlohmann::ordered_json environment_json(const Job& job,
                                        const std::vector<std::string>& command_line);

}  // namespace memwall
