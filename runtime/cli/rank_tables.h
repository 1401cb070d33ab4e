// What every rank held and sent, planned beside measured, from the last lines of a run's metrics.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace memwall {

// The last complete line of a metrics file; "" where there is none.
std::string last_metrics_line(const std::string& path);

// Memory by category and traffic by collective, two columns a rank. `lines`: one a rank, each an
// object with planned.{memory,traffic} and measured.{memory,traffic}.
std::string rank_tables(const std::vector<nlohmann::ordered_json>& lines);

}  // namespace memwall
