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
  std::string program = "memwall";     // how this command was called, for commands to run
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
  std::string cluster;     // "": no seconds
  std::string target;      // "": as run.device says
  int64_t ranks = 0;
  bool json = false, dump = false;
};
ExitCode plan_verb(const PlanOptions& options);

struct SimulateOptions {
  ConfigOptions config;
  std::string cluster;
  std::string ranks;  // "8..16384": powers of two times 8; or "8,24,64"
  std::string what_if, algorithm;
  std::vector<std::string> against;  // run folders, or folders of memwall scale
  bool json = false;
};
ExitCode simulate_verb(const SimulateOptions& options);

struct ScaleOptions {
  ConfigOptions config;
  std::string ranks;   // as in SimulateOptions
  std::string stages;  // "0,1,2,3"; "": the configuration's
  bool weak = false, strong = false;
  bool local = false, slurm = false;
  std::string hosts, link;     // "": not there
  int64_t ranks_per_host = 0;  // 0: as the hosts are many
  int64_t steps = 20;
  std::string cluster;     // "": nothing is predicted, unless
  bool calibrate = false;  // each rank count is measured first
  std::string folder;      // "": runs/scale-NAME
  bool json = false;
};
ExitCode scale_verb(const ScaleOptions& options);

struct ReportOptions {
  std::vector<std::string> runs;  // run folders, or folders of memwall scale
  std::string output;             // the page
  std::string cluster;            // "": nothing is predicted
  std::string trace;              // the run's traces as one file; "": none
  std::vector<std::string> command_line;
};
ExitCode report_verb(const ReportOptions& options);

struct FitOptions {
  ConfigOptions config;
  int64_t ranks = 0;
  std::string budget;             // "": memory.budget of the configuration
  std::string vary = "settings";  // or layers, micro_batch
  bool json = false;
};
ExitCode fit_verb(const FitOptions& options);

struct EvalOptions {
  std::string run;
  bool json = false;
};
ExitCode eval_verb(const EvalOptions& options, Job& job);

struct HessianOptions {
  std::string run;
  int64_t windows = 32, probes = 16;
  int64_t iterations = 80, eigenvalues = 3;  // of Lanczos: products at most; at each end
  double tolerance = 1e-4;                   // relative, of a residual
  std::string data = "train";                // or validation
  int64_t seed = 1;                          // of the signs
  std::string dump, svg;                     // "": none; RUN/hessian.svg
  bool json = false;
};
ExitCode hessian_verb(const HessianOptions& options, Job& job);

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

struct TokenizeOptions {
  std::vector<std::string> texts;  // a document each
  std::string tokenizer, output;   // `output`: a folder
  double validation_fraction = 0.0;
  int64_t tokens_per_file = 100'000'000;
  bool no_separator = false, overwrites = false, json = false;
};
ExitCode tokenize_verb(const TokenizeOptions& options, Job& job);

struct ShowOptions {
  std::string run;
  bool json = false;
};
ExitCode show_verb(const ShowOptions& options);

}  // namespace memwall
