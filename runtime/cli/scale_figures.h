// What one run of `memwall scale` came to, read from its folder.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "configs/cluster.pb.h"
#include "runtime/cli/scale_sweep.h"

namespace memwall {

struct ScalePrediction {
  double step_seconds = 0.0, exposed_communication = 0.0;
  double error = 0.0;  // predicted / measured - 1
};

// Medians over the steps after the warm-up. Bytes are a rank's, of the rank with most of them.
struct ScaleFigures {
  double step_seconds = 0.0;  // of the slowest rank
  double tokens_per_second = 0.0;
  // measured.seconds but for its sums, in its order: means over the ranks. A part that a line
  // lacks is left out.
  std::vector<std::pair<std::string, double>> seconds;
  nlohmann::ordered_json planned_traffic, measured_traffic;  // of rank 0
  int64_t planned_wire = 0, measured_wire = 0;               // their sums
  int64_t planned_peak = 0, measured_peak = 0;               // memory
  double loss = 0.0;                                         // of the last step
  int64_t hosts = 0, threads = 0;                            // threads: of a rank
  bool oversubscribed = false;  // a host's ranks have more threads than it has cores
  std::optional<ScalePrediction> prediction;

  std::optional<double> part(std::string_view name) const;
  // Bytes that a rank sends in a second of communication; nullopt where there is none.
  std::optional<double> bus_bandwidth() const;
};

// InputError where the folder lacks a step, a rank or a file, is of another configuration, or where
// the ranks were not on the hosts they were to be on: names what.
ScaleFigures collect(const Sweep& sweep, const ScaleRun& run);

// InputError as predict_run.
ScalePrediction predict(const std::string& run_folder, const config::Cluster& cluster,
                        const std::string& cluster_file);

std::string run_path(const Sweep& sweep, const ScaleRun& run);

}  // namespace memwall
