// `memwall bench gemm | collectives | machine | step`: what this machine reaches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/cli/verbs.h"

namespace memwall {

struct BenchStepOptions {
  ConfigOptions config;
  int64_t steps = 10;
  bool json = false;
};
ExitCode bench_step_verb(const BenchStepOptions& options, Job& job);

struct BenchMachineOptions {
  ConfigOptions config;
  int64_t steps = 10;  // at least
  // At least: how the system places ranks that share cores changes slowly, so short steps are
  // measured more often.
  double seconds = 4.0;
  std::string fit;  // a cluster's description, made or added to; "": none
  bool json = false;
};
ExitCode bench_machine_verb(const BenchMachineOptions& options, Job& job);

struct BenchGemmOptions {
  ConfigOptions config;             // the distinct products of its step, or
  std::vector<std::string> shapes;  // "MxNxK" or "MxNxK:NT"
  double seconds = 0.3;             // a product
  bool json = false;
};
ExitCode bench_gemm_verb(const BenchGemmOptions& options, Job& job);

struct BenchCollectivesOptions {
  std::vector<std::string> bytes;  // "16MiB", of input a rank; empty: a few sizes
  int64_t rounds = 21;
  std::string fit;  // a cluster's description that the figures are added to; "": none
  bool json = false;
};
ExitCode bench_collectives_verb(const BenchCollectivesOptions& options, Job& job);

}  // namespace memwall
