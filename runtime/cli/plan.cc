// `memwall plan`: what every rank will hold, send and compute.
#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <optional>

#include "runtime/base/hash.h"
#include "runtime/base/target.h"
#include "runtime/cli/budget.h"
#include "runtime/cli/machine.h"
#include "runtime/cli/plan_text.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/verbs.h"
#include "runtime/cli/window_rounding.h"
#include "runtime/config/cluster.h"
#include "runtime/plan/verify.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file || text.empty()) throw InputError("cannot be read, or is empty", path);
  return text;
}

ExitCode check_dump(const std::string& path) {
  const Plan plan = parse_plan(read_file(path), path);
  verify_plan(plan);
  fmt::print("{}: a valid plan for {} rank{}, {}\n", path, plan.ranks, plan.ranks == 1 ? "" : "s",
             hash_hex(plan_hash(plan)));
  return ExitCode::kDone;
}

// One host; a target of --target in the place of run.device.
Hosting hosting_for(const std::string& target, int64_t ranks, config::Config& config) {
  Hosting hosting{ranks, ranks, ranks};
  if (target.empty()) return hosting;
  const bool gpu = backend_of(target) == Backend::kCuda;
  config.mutable_run()->set_device(gpu ? config::Run::CUDA : config::Run::CPU);
  if (gpu) {
    hosting.gpu_target = target;
  } else if (target != kCpuTarget) {
    throw InputError("unknown target \"" + target + "\"", "--target",
                     "allowed: cpu, sm_80, sm_90, sm_100");
  }
  return hosting;
}

}  // namespace

ExitCode plan_verb(const PlanOptions& options) {
  if (!options.check_file.empty()) return check_dump(options.check_file);
  if (options.config.path.empty()) throw InputError("plan needs CONFIG, or --check FILE");
  if (options.ranks == 0) throw InputError("is missing", "--ranks", "e.g. --ranks 2");

  const GivenConfig given = load_config(options.config.path, options.config.overrides);
  validate(given, options.ranks, Purpose::kPlan);
  config::Config config = effective(given.config, options.ranks);
  const Hosting hosting = hosting_for(options.target, options.ranks, config);
  const GptSpec spec = gpt_spec(config);
  std::optional<Machine> machine;
  if (!options.cluster.empty()) {
    machine = machine_of(load_cluster(options.cluster), options.cluster);
  }
  const Plan plan =
      compile(Gpt2(spec), machine ? compile_settings_on(*machine, config, options.ranks)
                                  : compile_settings(config, hosting));
  std::optional<Simulation> step;
  if (machine) step = simulate(plan, *machine);
  if (options.json) {
    nlohmann::ordered_json json = plan_json(plan, run_flops(plan, config.run().steps()));
    if (step) {
      json["step_seconds"] = step_seconds_json(step->seconds);
      json["link_bytes"] = link_bytes_json(step->link_bytes);
    }
    fmt::print("{}\n", json.dump(2));
  } else if (options.dump) {
    fmt::print("{}", dump_plan(plan));
  } else {
    fmt::print("{}", plan_summary(plan, {config.run().name(), spec, config.run().steps(),
                                         planned_window_rounding(plan, config)}));
    if (step) fmt::print("\n{}", prediction_summary(*step));
  }
  std::fflush(stdout);
  refuse_over_budget(plan, config,
                     what_would_fit(plan, config, {options.config, options.ranks, {}}));
  return ExitCode::kDone;
}

}  // namespace memwall
