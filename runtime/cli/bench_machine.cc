// `memwall bench machine`: times every kind of work of a configuration's training step, for the
// cost model.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "comm/agree.h"
#include "comm/self/self_communicator.h"
#include "memory/arena.h"
#include "runtime/cli/bench.h"
#include "runtime/cli/bench_run.h"
#include "runtime/cli/environment.h"
#include "runtime/cli/fit_cluster.h"
#include "runtime/cli/machine.h"
#include "runtime/cli/samples.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/step_points.h"
#include "runtime/cli/tables.h"
#include "runtime/config/cluster.h"
#include "runtime/sim/skew.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kWarmUpSteps = 2;
constexpr int64_t kMostSkipped = 40;  // a loss scale that halves has fallen far enough by then

// The same on all ranks.
struct MachineTimes {
  std::vector<TimedOp> ops;
  double host_seconds = 0.0;     // of a step, outside the plan's
  double skew_seconds = 0.0;     // standard deviation of a rank's compute from the ranks' mean
  double compute_seconds = 0.0;  // of a step, the mean rank's
};

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// A rank's figures of one training step, as it sends them to the others.
std::vector<double> figures(const StepPoints::Step& step, const StepReport& report) {
  std::vector<double> out = step.seconds;
  out.push_back(step.compute_seconds);
  out.push_back(std::max(0.0, report.seconds - step.compute_seconds - step.transfer_seconds));
  out.push_back(report.skipped ? 1.0 : 0.0);
  return out;
}

class MachineBench {
 public:
  MachineBench(const BenchRun& run, Job& job)
      : run_(run),
        comm_(job.comm()),
        unconnected_(comm_.rank(), comm_.size(), comm_.transport()),
        points_(run.plan) {
    run_together(comm_, [&] {
      executor_ = std::make_unique<Executor>(run_.plan, unconnected_, job.threads());
    });
    seconds_.resize(points_.work().size());
  }

  // At least `steps` steps, and for at least `least_seconds`.
  MachineTimes measure(int64_t steps, double least_seconds) {
    const TrainSettings settings = train_settings(run_.config, comm_.size());
    StepRunner runner(*executor_, synthetic_tokens(run_.config, comm_), settings);
    executor_->run(run_.plan.program("init"));
    executor_->set_observer(&points_);
    StepState state = initial_state(settings.loss_scale);
    const int64_t cycle = std::max<int64_t>(1, settings.curvature_every);
    const int64_t kinds = has_two_kinds(run_.plan) ? 2 : 1;  // steps with curvature and without
    const double begin = now_seconds();
    double spent = 0.0;  // the same on all ranks, as is what follows
    int64_t counted = 0;
    for (int64_t step = 0; counted < steps || spent < least_seconds; ++step) {
      if (step > kWarmUpSteps + kMostSkipped + 2 * counted) {
        throw InputError("most steps overflow at this loss scale, and are not timed", "",
                         "a smaller precision.initial_loss_scale");
      }
      for (int64_t kind = 0; kind < kinds; ++kind) {
        state.applied = state.measured * cycle + kind;
        comm_.barrier();
        points_.take();
        const StepReport report = runner.run(step, state, {});
        const std::vector<double> mine = figures(points_.take(), report);
        const std::vector<double> all = comm_.gather_all(mine);
        if (step >= kWarmUpSteps && add(all, mine.size(), kind == 0)) ++counted;
        if (kind == 0) state = next_state(state, report, settings.loss_scale);
      }
      spent = slowest(comm_, now_seconds() - begin);
    }
    return result();
  }

 private:
  // `all`: rank by rank. False: a rank skipped its update, which then took no time. True is of a
  // whole step only.
  bool add(const std::vector<double>& all, size_t count, bool whole) {
    const auto of_ranks = [&](size_t figure) {
      std::vector<double> out;
      for (size_t at = figure; at < all.size(); at += count) out.push_back(all[at]);
      return out;
    };
    if (mean(of_ranks(seconds_.size() + 2)) > 0.0) return false;
    for (size_t w = 0; w < seconds_.size(); ++w) {
      const double seconds = mean(of_ranks(w));
      if (seconds > 0.0) seconds_[w].add(seconds);
    }
    if (!whole) return false;
    const std::vector<double> compute = of_ranks(seconds_.size());
    compute_.add(mean(compute));
    behind_.add(*std::max_element(compute.begin(), compute.end()) - mean(compute));
    host_.add(mean(of_ranks(seconds_.size() + 1)));
    return true;
  }

  MachineTimes result() const {
    MachineTimes out;
    for (size_t w = 0; w < seconds_.size(); ++w) {
      const OpWork& work = points_.work()[w];
      if (seconds_[w].values.empty() || work.flops + work.dram_bytes == 0) continue;
      out.ops.push_back({work.op,
                         work.dtype,
                         {work.flops, work.dram_bytes, work.launches, seconds_[w].median()}});
    }
    out.host_seconds = host_.median();
    out.compute_seconds = compute_.median();
    if (comm_.size() > 1) out.skew_seconds = behind_.median() / expected_maximum(comm_.size());
    return out;
  }

  const BenchRun& run_;
  Communicator& comm_;
  // Ranks that wait for each other compute in turns where they share cores, and each would look
  // faster than all together are.
  SelfCommunicator unconnected_;
  StepPoints points_;
  std::unique_ptr<Executor> executor_;
  std::vector<Samples> seconds_;  // by work, a step's mean over the ranks
  Samples compute_, behind_, host_;
};

TimedOn timed_on(const Job& job) {
  return {processor(), job.threads(), hosting_of(job.session()).ranks_a_node};
}

// The file's description, where it is there. InputError where nothing can be added to it.
std::optional<config::Cluster> given_cluster(const std::string& file, const Job& job) {
  if (fs::exists(file)) {
    config::Cluster out = load_cluster(file);
    check_describes(out, file, timed_on(job));
    return out;
  }
  const fs::path folder = fs::absolute(file).parent_path();
  if (!fs::is_directory(folder)) {
    throw InputError("lies in no folder that exists", file, "name a file in one");
  }
  return std::nullopt;
}

// `memory_bytes`: of a rank.
void write_times(const BenchMachineOptions& options, const MachineTimes& times,
                 int64_t memory_bytes, const Job& job) {
  std::optional<config::Cluster> cluster = given_cluster(options.fit, job);
  if (cluster) {
    add_ops(*cluster, times.ops);
  } else {
    cluster = cluster_of(times.ops, timed_on(job), memory_bytes);
  }
  cluster->mutable_device()->set_step_seconds(times.host_seconds);
  cluster->mutable_device()->set_skew_seconds(times.skew_seconds);
  write_fit(options.fit, *cluster,
            fmt::format("memwall bench machine {}, {} rank{}, {} on this host", options.config.path,
                        job.ranks(), job.ranks() == 1 ? "" : "s", job.ranks_on_host()));
}

struct Kind {
  int64_t works = 0;
  double seconds = 0.0, flops = 0.0, bytes = 0.0;
};

// By op and type, of one of each work.
std::map<std::pair<Op, DType>, Kind> kinds_of(const MachineTimes& times) {
  std::map<std::pair<Op, DType>, Kind> out;
  for (const TimedOp& t : times.ops) {
    Kind& kind = out[{t.op, t.dtype}];
    ++kind.works;
    kind.seconds += t.point.seconds;
    kind.flops += static_cast<double>(t.point.flops);
    kind.bytes += static_cast<double>(t.point.dram_bytes);
  }
  return out;
}

Json to_json(const BenchMachineOptions& options, const MachineTimes& times, const Job& job) {
  Json out = {{"config", options.config.path},
              {"ranks", job.ranks()},
              {"ranks_on_host", job.ranks_on_host()},
              {"threads", job.threads()},
              {"compute_seconds", times.compute_seconds},
              {"host_seconds", times.host_seconds},
              {"skew_seconds", times.skew_seconds}};
  Json ops = Json::array();
  for (const TimedOp& t : times.ops) {
    ops.push_back({{"op", op_name(t.op)},
                   {"dtype", name_of(t.dtype)},
                   {"flops", t.point.flops},
                   {"dram_bytes", t.point.dram_bytes},
                   {"launches", t.point.launches},
                   {"seconds", t.point.seconds}});
  }
  out["ops"] = std::move(ops);
  if (!options.fit.empty()) out["fit"] = options.fit;
  return out;
}

std::string to_text(const BenchMachineOptions& options, const MachineTimes& times, const Job& job) {
  TextTable table({"op", "type", "sizes", "GFLOP/s", "GB/s"});
  for (const auto& [key, kind] : kinds_of(times)) {
    table.add({std::string(op_name(key.first)), std::string(name_of(key.second)),
               std::to_string(kind.works), fmt::format("{:.1f}", 1e-9 * kind.flops / kind.seconds),
               fmt::format("{:.2f}", 1e-9 * kind.bytes / kind.seconds)});
  }
  std::string out = fmt::format(
      "{}: {} rank{} of {} thread{}; a step computes for {}, the host takes {} beside it, a rank "
      "is {} off the mean (standard deviation)\n\n{}",
      options.config.path, job.ranks(), job.ranks() == 1 ? "" : "s", job.threads(),
      job.threads() == 1 ? "" : "s", seconds_text(times.compute_seconds),
      seconds_text(times.host_seconds), seconds_text(times.skew_seconds), table.text());
  if (!options.fit.empty()) {
    out += fmt::format("\n{} timed sizes are in {}\n", times.ops.size(), options.fit);
  }
  return out;
}

}  // namespace

ExitCode bench_machine_verb(const BenchMachineOptions& options, Job& job) {
  const BenchRun run = bench_run(options.config, job);
  const bool writes = job.speaks() && !options.fit.empty();
  int64_t memory_bytes = 0;       // before there are arenas
  run_together(job.comm(), [&] {  // a file that cannot be used is refused before the work
    memory_bytes = available_memory_bytes() / job.ranks_on_host();
    if (writes) given_cluster(options.fit, job);
  });
  const MachineTimes times = MachineBench(run, job).measure(options.steps, options.seconds);
  run_together(job.comm(), [&] {
    if (writes) write_times(options, times, memory_bytes, job);
  });
  if (!job.speaks()) return ExitCode::kDone;
  fmt::print("{}", options.json ? to_json(options, times, job).dump(2) + '\n'
                                : to_text(options, times, job));
  return ExitCode::kDone;
}

}  // namespace memwall
