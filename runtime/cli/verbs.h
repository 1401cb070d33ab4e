// The verbs of `memwall`. Each throws Error; what it returns is the process's exit code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/cli/job.h"
#include "runtime/cli/sampling.h"

namespace memwall {

struct ConfigOptions {
  std::string path;
  std::vector<std::string> overrides;  // FIELD=VALUE, in order
};

struct TrainOptions {
  ConfigOptions config;
  std::string run_dir;  // "": chosen
  bool resume = false;
  std::vector<std::string> command_line;  // for the run's record
};
ExitCode train_verb(const TrainOptions& options, Job& job);

struct PlanOptions {
  ConfigOptions config;
  std::string check_file;  // not "": only this dump is read and verified
  int64_t ranks = 0;
  bool json = false, dump = false;
};
ExitCode plan_verb(const PlanOptions& options);

struct EvalOptions {
  std::string run;
  bool json = false;
};
ExitCode eval_verb(const EvalOptions& options, Job& job);

struct GenerateOptions {
  std::string run, prompt;
  int64_t tokens = 200;
  SamplingSettings sampling;
};
ExitCode generate_verb(const GenerateOptions& options, Job& job);

struct ExportOptions {
  std::string run, folder;
};
ExitCode export_verb(const ExportOptions& options, Job& job);

struct ShowOptions {
  std::string run;
  bool json = false;
};
ExitCode show_verb(const ShowOptions& options);

}  // namespace memwall
