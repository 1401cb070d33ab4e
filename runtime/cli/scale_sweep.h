// The runs of `memwall scale`, worked out before any of them starts.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/cli/verbs.h"
#include "runtime/launch/hosts.h"

namespace memwall {

enum class Scaling { kWeak, kStrong };
std::string_view name_of(Scaling scaling);  // "weak", "strong"

struct ScaleRun {
  int64_t ranks = 1, zero_stage = 0;
  HostPlacement placement;
  std::string folder;               // below the sweep's: "ranks-4-stage-3"
  std::vector<std::string> sets;    // FIELD=VALUE, the user's among them
  std::string cluster;              // the description that is measured first; "": none
  bool chooses_on_cluster = false;  // communication.algorithm AUTO, on that description
  std::string config_text;          // what the run's config.textproto will say
  int64_t tokens = 0;               // a step, over all ranks
};

struct Sweep {
  std::string config;  // path, as the user gave it
  std::string folder;  // absolute
  Scaling scaling = Scaling::kWeak;
  Launch launch = Launch::kLocal;
  std::string link;          // "": not throttled
  int64_t ranks_a_host = 0;  // 0: not asked for
  // Of each rank, the same at every count, so that ranks are equally fast; 0: as each host decides.
  int64_t threads = 0;
  std::vector<Host> hosts;  // of Launch::kHosts
  int64_t steps = 0, warm_up_steps = 0;
  bool calibrates = false;  // each rank count is measured before its first run
  // Sequences a step: a rank's (weak), or all ranks' (strong).
  int64_t sequences = 0;
  std::string
      config_hash;  // of CONFIG with the user's overrides, paths absolute, without stage and steps
  std::vector<ScaleRun> runs;  // stage by stage, ranks ascending
};

// Whether `text`, a config.textproto, is that of the run; where the run leaves its device open, it
// may have found a GPU.
bool is_config_of(std::string text, const ScaleRun& run);

// What `train` is given: `sets`, and communication.cluster where the run chooses on it.
std::vector<std::string> train_sets(const ScaleRun& run);

// "0,1,3": ascending or not, each once. InputError where it is something else.
std::vector<int64_t> parse_stages(const std::string& text);

// The largest micro-batch of at most `micro_batch` of which a rank's share is a multiple.
int64_t strong_micro_batch(int64_t global_batch, int64_t ranks, int64_t micro_batch);

// Weak scaling keeps what a rank does in a step, as `memwall simulate` does; strong scaling keeps
// what all do. InputError where one of the runs could not train.
Sweep plan_sweep(const ScaleOptions& options);

// What must be the same where a sweep goes on, for scale.json.
nlohmann::ordered_json identity_json(const Sweep& sweep);

}  // namespace memwall
