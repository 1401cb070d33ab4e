// The predicted step of a run that was made, beside its measured one.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "comm/make_communicator.h"
#include "configs/cluster.pb.h"
#include "runtime/config/config.h"
#include "runtime/cost/machine.h"
#include "runtime/plan/plan.h"
#include "runtime/sim/simulate.h"

namespace memwall {

// What a run folder says of its run.
struct RunRecord {
  std::string folder;
  config::Config config;  // effective
  int64_t ranks = 1;
  std::string plan_hash;  // as plan.txt has it
  Hosting hosting;
  std::vector<int64_t> steps;            // ascending, those of which every rank has a line
  std::vector<double> step_seconds;      // of each, the slowest rank's
  std::vector<bool> measured_curvature;  // of each
};

// From the "HOST cores=..." of each rank in environment.json. One host where it lists none.
Hosting hosting_of(const nlohmann::json& environment, int64_t ranks);

// InputError where the folder is none of a run, or lacks a file, a rank or every line: names what.
RunRecord read_run(const std::string& folder);

// The plan that the run executed, compiled again. InputError where that gives another one: the run
// was made by another version, or its folder was changed.
Plan compile_run(const RunRecord& run);

// How many of a run's first steps are not compared: 20 % of them, at least 2, and never all. The
// first ones touch memory and load libraries.
int64_t warm_up_steps(int64_t steps);

struct RunPrediction {
  std::string folder;
  int64_t ranks = 1, zero_stage = 0, parameters = 0;
  Simulation predicted;            // of a step without curvature where the run has both kinds
  double predicted_seconds = 0.0;  // a step; the mean of both kinds, as often as the run made them
  double measured_seconds = 0.0;   // a step: the median after the warm-up, of each kind likewise
  int64_t steps = 0;               // that were compared
  double error() const { return predicted_seconds / measured_seconds - 1.0; }
};

// `cluster_file`: for messages. InputError as above, and where the machine cannot hold the run.
RunPrediction predict_run(const std::string& run_folder, const config::Cluster& cluster,
                          const std::string& cluster_file);
RunPrediction predict_run(const std::string& run_folder, const Machine& machine);

// Median and largest of |error|; 0 where there is no run.
struct PredictionErrors {
  double median = 0.0, largest = 0.0;
};
PredictionErrors errors_of(const std::vector<RunPrediction>& runs);

}  // namespace memwall
