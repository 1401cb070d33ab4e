// What every rank held and sent, planned beside measured, and where its time went, from the last
// lines of a run's metrics.
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

// The mean of measured.seconds over the file's last steps, at most kMeanSteps, and their number as
// `steps`. Null where there is none, or where the run was made before seconds were split.
constexpr int64_t kMeanSteps = 10;
nlohmann::ordered_json mean_seconds(const std::string& metrics_path);

// Of each rank a line: a step's seconds, and the shares of its parts. `seconds`: mean_seconds of
// every rank. "" where one of them is null.
std::string seconds_table(const std::vector<nlohmann::ordered_json>& seconds);

}  // namespace memwall
