// Live bytes for the page's JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "runtime/plan/plan.h"

namespace memwall {

// {"positions" (how many there are), "programs", "position": [...] (those shown: of many, the one
// with the most bytes of each stretch), "steps": [names], "bytes": {category: [...]},
// "peak_position", "peak_bytes", "peak_step", "holders": [...] (the 30 largest), "other_holders"}
nlohmann::ordered_json live_json(const Plan& plan);

}  // namespace memwall
