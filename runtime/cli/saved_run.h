// A run that has saved: what eval, generate and export start from.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/cli/job.h"
#include "runtime/config/config.h"
#include "runtime/exec/executor.h"
#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"

namespace memwall {

struct SavedRun {
  std::string folder;      // absolute
  std::string checkpoint;  // the newest valid one
  config::Config config;
};

// InputError where `argument` is no run or has no checkpoint.
SavedRun open_saved_run(const std::string& argument);

// A plan and its executor, holding the run's weights.
struct LoadedModel {
  Plan plan;  // the executor refers to it
  std::unique_ptr<Executor> executor;
};

// Collective; all ranks return or throw together. Refused over the run's memory budget.
std::unique_ptr<LoadedModel> load_model(const SavedRun& run, const GptSpec& spec,
                                        const CompileSettings& settings, Job& job);

}  // namespace memwall
