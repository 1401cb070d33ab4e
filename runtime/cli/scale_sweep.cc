#include "runtime/cli/scale_sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "runtime/base/hash.h"
#include "runtime/cli/cores.h"
#include "runtime/cli/predict.h"
#include "runtime/cli/rank_counts.h"
#include "runtime/cli/settings.h"
#include "runtime/config/config.h"
#include "runtime/launch/namespaces.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStage = "parallel.zero_stage";

std::string set(std::string_view field, int64_t value) {
  return fmt::format("{}={}", field, value);
}

bool is_set(const ScaleOptions& options, std::string_view field) {
  return std::any_of(
      options.config.overrides.begin(), options.config.overrides.end(),
      [&](const std::string& text) { return text.substr(0, text.find('=')) == field; });
}

Launch launch_of(const ScaleOptions& o) {
  const int asked = (o.hosts.empty() ? 0 : 1) + (o.link.empty() ? 0 : 1) + o.slurm + o.local;
  if (asked > 1) {
    throw InputError("exclude each other", "--local, --hosts, --slurm, --link", "give one of them");
  }
  if (!o.hosts.empty()) return Launch::kHosts;
  if (o.slurm) return Launch::kSlurm;
  if (o.link.empty()) return Launch::kLocal;
  parse_link_rate(o.link);
  return Launch::kNamespaces;
}

// Evaluation and saving would stand between steps; an explicit --set still has its way.
std::vector<std::string> sets_of(const ScaleOptions& options, std::vector<std::string> last) {
  std::vector<std::string> out = {"run.eval_every=0", "run.save_every=0"};
  out.insert(out.end(), options.config.overrides.begin(), options.config.overrides.end());
  out.insert(out.end(), last.begin(), last.end());
  return out;
}

config::Config valid_config(const ScaleOptions& options, const std::vector<std::string>& sets,
                            int64_t ranks) {
  const GivenConfig given = load_config(options.config.path, sets);
  validate(given, ranks, Purpose::kTrain);
  config::Config out = effective(given.config, ranks);
  resolve_paths(out);
  return out;
}

std::string config_hash(const ScaleOptions& options) {
  config::Config config = load_config(options.config.path, sets_of(options, {})).config;
  resolve_paths(config);
  config.mutable_parallel()->clear_zero_stage();  // of these two the sweep has its own
  config.mutable_run()->clear_steps();
  return hash_hex(hash_text(to_text(config)));
}

// OMP_NUM_THREADS; else, where all ranks share this machine, what the most of them can have.
int64_t threads_of(Launch launch, int64_t most_ranks) {
  if (const char* asked = std::getenv("OMP_NUM_THREADS")) return std::max(1LL, std::atoll(asked));
  if (launch == Launch::kHosts || launch == Launch::kSlurm) return 0;
  return std::max<int64_t>(1, static_cast<int64_t>(allowed_cores().size()) / most_ranks);
}

int64_t hosts_at_hand(const Sweep& sweep, int64_t ranks) {
  switch (sweep.launch) {
    case Launch::kLocal: return 1;
    case Launch::kHosts: return static_cast<int64_t>(sweep.hosts.size());
    case Launch::kSlurm: return slurm_nodes();
    case Launch::kNamespaces: return std::min(NamespaceHosts::kMost, ranks);
  }
  throw InternalError("a launch without hosts");
}

HostPlacement placement_of(const Sweep& sweep, int64_t ranks) {
  const HostPlacement out = place(ranks, hosts_at_hand(sweep, ranks), sweep.ranks_a_host);
  if (sweep.launch == Launch::kHosts) hosts_mpirun(sweep.hosts, out);  // slots
  return out;
}

ScaleRun run_of(const ScaleOptions& options, const Sweep& sweep, const config::Config& first,
                int64_t stage, int64_t ranks) {
  const bool weak = sweep.scaling == Scaling::kWeak;
  const int64_t global = weak ? sweep.sequences * ranks : sweep.sequences;
  if (global % ranks != 0) {
    throw InputError(fmt::format("{} sequences a step do not divide among {} ranks", global, ranks),
                     "--ranks", "--weak, or --set data.global_batch_size=");
  }
  std::vector<std::string> last = {set("run.steps", options.steps), set(kStage, stage),
                                   set("data.global_batch_size", global)};
  const int64_t micro = first.data().micro_batch_size();
  const int64_t fitting = strong_micro_batch(global, ranks, micro);
  if (fitting != micro) last.push_back(set("data.micro_batch_size", fitting));
  ScaleRun out;
  out.ranks = ranks;
  out.zero_stage = stage;
  out.placement = placement_of(sweep, ranks);
  out.folder = fmt::format("ranks-{}-stage-{}", ranks, stage);
  out.sets = sets_of(options, std::move(last));
  config::Config config = valid_config(options, out.sets, ranks);
  if (options.calibrate) {
    // As many threads in other sweeps of this folder would make the ranks other devices.
    out.cluster = fmt::format("{}/cluster-ranks-{}", sweep.folder, ranks);
    if (sweep.threads > 0) out.cluster += fmt::format("-threads-{}", sweep.threads);
    out.cluster += ".textproto";
    out.chooses_on_cluster = out.placement.hosts > 1 && !config.communication().has_cluster() &&
                             !fabric_request(config.communication()).algorithm;
    config = valid_config(options, train_sets(out), ranks);
  }
  out.config_text = to_text(config);
  out.tokens = config.data().global_batch_size() * config.data().seq_length();
  return out;
}

void check_options(const ScaleOptions& options) {
  if (is_set(options, "run.steps")) throw InputError("is given by --steps", "--set run.steps");
  if (!options.stages.empty() && is_set(options, kStage)) {
    throw InputError("is given by --stages", fmt::format("--set {}", kStage));
  }
  if (options.ranks_per_host > 0 && launch_of(options) == Launch::kLocal) {
    throw InputError("this host has all ranks", "--ranks-per-host",
                     "it goes with --hosts, --slurm or --link");
  }
}

}  // namespace

std::string_view name_of(Scaling scaling) {
  return scaling == Scaling::kWeak ? "weak" : "strong";
}

bool is_config_of(std::string text, const ScaleRun& run) {
  constexpr std::string_view kFound = "  device: CUDA\n", kOpen = "  device: AUTO\n";
  const size_t at = text.find(kFound);
  if (at != std::string::npos && run.config_text.find(kOpen) != std::string::npos) {
    text.replace(at, kFound.size(), kOpen);
  }
  return text == run.config_text;
}

std::vector<std::string> train_sets(const ScaleRun& run) {
  std::vector<std::string> out = run.sets;
  if (run.chooses_on_cluster) out.push_back("communication.cluster=" + run.cluster);
  return out;
}

std::vector<int64_t> parse_stages(const std::string& text) {
  std::vector<int64_t> out;
  std::set<char> seen;
  for (size_t at = 0; at <= text.size(); at += 2) {
    const bool is_stage = at < text.size() && text[at] >= '0' && text[at] <= '3' &&
                          (at + 1 == text.size() || text[at + 1] == ',');
    if (!is_stage || !seen.insert(text[at]).second) {
      throw InputError(fmt::format("\"{}\" is no list of ZeRO stages", text), "--stages",
                       "as 0,1,2,3, each once");
    }
    out.push_back(text[at] - '0');
    if (at + 1 == text.size()) break;
  }
  return out;
}

int64_t strong_micro_batch(int64_t global_batch, int64_t ranks, int64_t micro_batch) {
  const int64_t share = global_batch / ranks;
  int64_t out = std::min(micro_batch, share);
  while (share % out != 0) --out;
  return out;
}

Sweep plan_sweep(const ScaleOptions& options) {
  const std::vector<int64_t> counts = parse_rank_counts(options.ranks);
  if (options.weak && options.strong) throw InputError("exclude each other", "--weak, --strong");
  check_options(options);
  Sweep out;
  out.config = options.config.path;
  out.scaling = options.strong ? Scaling::kStrong : Scaling::kWeak;
  out.launch = launch_of(options);
  out.link = options.link;
  out.ranks_a_host = options.ranks_per_host;
  if (out.launch == Launch::kNamespaces && out.ranks_a_host == 0) out.ranks_a_host = 1;
  if (out.launch == Launch::kHosts) out.hosts = parse_hosts(options.hosts);
  out.threads = threads_of(out.launch, counts.back());
  out.steps = options.steps;
  out.calibrates = options.calibrate;
  out.warm_up_steps = warm_up_steps(options.steps);
  const config::Config first =
      valid_config(options, sets_of(options, {set("run.steps", options.steps)}), counts[0]);
  const int64_t global = first.data().global_batch_size();
  out.sequences = out.scaling == Scaling::kWeak ? global / counts[0] : global;
  out.config_hash = config_hash(options);
  out.folder =
      fs::absolute(options.folder.empty() ? fmt::format("runs/scale-{}", first.run().name())
                                          : options.folder)
          .lexically_normal();
  const std::vector<int64_t> stages = options.stages.empty()
                                          ? std::vector<int64_t>{first.parallel().zero_stage()}
                                          : parse_stages(options.stages);
  for (int64_t stage : stages) {
    for (int64_t ranks : counts) out.runs.push_back(run_of(options, out, first, stage, ranks));
  }
  return out;
}

nlohmann::ordered_json identity_json(const Sweep& sweep) {
  nlohmann::ordered_json out = {
      {"config_hash", sweep.config_hash},     {"scaling", name_of(sweep.scaling)},
      {"launch", name_of(sweep.launch)},      {"link", nullptr},
      {"ranks_per_host", sweep.ranks_a_host}, {"steps", sweep.steps},
      {"calibrate", sweep.calibrates},        {"sequences", sweep.sequences}};
  if (!sweep.link.empty()) out["link"] = sweep.link;
  return out;
}

}  // namespace memwall
