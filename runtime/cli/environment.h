// What a run ran on: environment.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/cli/job.h"

namespace memwall {

// As the system names it; "?" where it does not.
std::string processor();

// Collective; equal on all ranks but for "rank".
nlohmann::ordered_json environment_json(const Job& job,
                                        const std::vector<std::string>& command_line);

}  // namespace memwall
