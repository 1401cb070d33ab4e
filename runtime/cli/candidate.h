// A configuration with some of its fields changed, compiled: what a rank would hold, and what a
// step would cost.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/make_communicator.h"
#include "runtime/cli/verbs.h"
#include "runtime/config/config.h"
#include "runtime/plan/plan.h"

namespace memwall {

// What is varied: a configuration file with the user's own overrides, on so many ranks.
struct SearchBase {
  ConfigOptions config;
  int64_t ranks = 1;
  std::optional<Hosting> hosting;  // of a job; else as `memwall plan` takes it
};

// Settings, as bits.
enum Setting : unsigned {
  kZeroStage = 1,
  kPolicy = 2,
  kMicroBatch = 4,
  kPrecision = 8,
  kLayers = 16
};

// Fields to set on top of the base's. Empty: the base as it is.
struct Change {
  std::vector<std::string> sets;  // FIELD=VALUE
  unsigned settings = 0;          // those that differ; a policy and its preset are one
  bool changes_results =
      false;  // training gives other numbers than the base's, not by rounding alone

  int count() const { return std::popcount(settings); }
};

// Figures are a rank's; FLOPs and bytes sent are those of a step.
struct Candidate {
  Change change;
  int64_t planned_bytes = 0;  // what the budget bounds
  int64_t lower_bound = 0;    // so many without gaps in the arena
  int64_t workspace = 0;      // the category's maximum
  int64_t parameters = 0, layers = 0, zero_stage = 0, micro_batch = 0, micro_steps = 0;
  std::string policy, precision;  // as the configuration spells them
  int64_t model_flops = 0, recomputed_flops = 0, tangent_flops = 0;
  PlannedTraffic all_gather, reduce_scatter, all_reduce;

  int64_t flops() const { return model_flops + recomputed_flops + tangent_flops; }
  int64_t wire_bytes() const {
    return all_gather.wire_bytes + reduce_scatter.wire_bytes + all_reduce.wire_bytes;
  }
};

// The effective configuration of base and change. InputError where it is none.
config::Config config_of(const SearchBase& base, const Change& change);

Candidate compile_candidate(const SearchBase& base, const Change& change);

// What the slots alone take, without compiling: never more than planned_bytes.
int64_t persistent_bytes(const SearchBase& base, const Change& change);

// "mpirun -np 8 build/memwall train CONFIG --set ...", words quoted for a shell where they need it;
// without mpirun on one rank. `budget`: the memory.budget to set, "" leaves it as the base has it.
std::string command_line(const SearchBase& base, const Change& change, std::string_view budget);

}  // namespace memwall
