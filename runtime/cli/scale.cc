// `memwall scale`: trains on each rank count, and sets the runs side by side.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "runtime/cli/machine.h"
#include "runtime/cli/scale_figures.h"
#include "runtime/cli/scale_launch.h"
#include "runtime/cli/scale_record.h"
#include "runtime/cli/scale_svg.h"
#include "runtime/cli/scale_sweep.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/verbs.h"
#include "runtime/config/cluster.h"
#include "runtime/data/atomic_file.h"
#include "runtime/launch/namespaces.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSvgFile = "scale.svg";

void say(const std::string& line) {
  fmt::print(stderr, "{}\n", line);
  std::fflush(stderr);
}

// One sweep at a time writes into a folder.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    const std::string path = folder + "/.lock";
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (error || fd_ < 0) {
      throw InputError("cannot write there", folder, "choose another one with --folder");
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    ::close(fd_);
    throw InputError("another sweep is at work there", folder, "choose another one with --folder");
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

// The clusters that steps are predicted on: one for all runs, or one that was measured for each
// rank count.
class Predictors {
 public:
  Predictors(const ScaleOptions& options, const Sweep& sweep)
      : sweep_(sweep), calibrates_(options.calibrate) {
    if (!options.cluster.empty()) given_ = {options.cluster, load_cluster(options.cluster)};
    if (!calibrates_) return;
    for (const ScaleRun& run : sweep.runs) load_measured(run);
  }

  bool any() const { return given_.has_value() || calibrates_; }
  bool lacks(const ScaleRun& run) const { return calibrates_ && !measured_.contains(run.ranks); }

  // "", or what went wrong: the next run on as many ranks may do better.
  std::string measure(const ScaleLauncher& launcher, const ScaleRun& run) {
    if (!lacks(run)) return "";
    say(fmt::format("measuring {} rank{} and {} links", run.ranks, run.ranks == 1 ? "" : "s",
                    run.ranks == 1 ? "no" : "their"));
    const ScaleLauncher::Result result = launcher.calibrate(run);
    if (!result.error.empty()) {
      for (const std::string& line : result.last_lines) say("  " + line);
      return "the machine could not be measured: " + result.error;
    }
    load_measured(run);
    return "";
  }

  // A run that the machine cannot have made is not predicted; the sweep goes on.
  void add(ScaleOutcome& outcome) const {
    const auto measured = measured_.find(outcome.run.ranks);
    const Predictor* on = given_ ? &*given_ : nullptr;
    if (measured != measured_.end()) on = &measured->second;
    if (on == nullptr || !outcome.figures) return;
    try {
      outcome.figures->prediction = predict(run_path(sweep_, outcome.run), on->cluster, on->file);
    } catch (const Error& error) {
      say(fmt::format("{}: not predicted: {}", outcome.run.folder, error.what()));
    }
  }

 private:
  struct Predictor {
    std::string file;
    config::Cluster cluster;
  };

  void load_measured(const ScaleRun& run) {
    if (!fs::exists(run.cluster)) return;
    measured_.try_emplace(run.ranks, Predictor{run.cluster, load_cluster(run.cluster)});
  }

  const Sweep& sweep_;
  bool calibrates_;
  std::optional<Predictor> given_;
  std::map<int64_t, Predictor> measured_;  // by ranks
};

void say_outcome(const ScaleOutcome& outcome, const ScaleLauncher::Result& result,
                 const std::string& log) {
  if (outcome.status == ScaleOutcome::Status::kDone) {
    say(fmt::format("{}: {} a step, {} tokens/s", outcome.run.folder,
                    seconds_text(outcome.figures->step_seconds),
                    amount_text(outcome.figures->tokens_per_second)));
    return;
  }
  say(fmt::format("{}: failed: {}", outcome.run.folder, outcome.error));
  if (!result.last_lines.empty()) say(fmt::format("  the end of {}:", log));
  for (const std::string& line : result.last_lines) say("  " + line);
}

void make_run(const Sweep& sweep, const ScaleLauncher& launcher, ScaleOutcome& outcome) {
  const ScaleLauncher::Result result = launcher.train(outcome.run);
  outcome.link_bytes = result.link_bytes;
  outcome.error = result.error;
  outcome.status = ScaleOutcome::Status::kFailed;
  if (outcome.error.empty()) {
    try {
      outcome.figures = collect(sweep, outcome.run);
      outcome.status = ScaleOutcome::Status::kDone;
    } catch (const Error& error) {
      outcome.error = error.what();
    }
  }
  say_outcome(outcome, result, run_path(sweep, outcome.run) + ".log");
}

std::string percent(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f} %", 100.0 * *share) : "-";
}

std::vector<std::string> row_of(const ScaleReport& report, const ScaleOutcome& outcome,
                                bool predicted) {
  const ScaleRun& run = outcome.run;
  std::vector<std::string> out = {std::to_string(run.ranks), std::to_string(run.placement.hosts),
                                  std::to_string(run.zero_stage)};
  if (!outcome.figures) {
    out.push_back(outcome.status == ScaleOutcome::Status::kFailed ? "failed" : "missing");
    return out;
  }
  const ScaleFigures& f = *outcome.figures;
  const std::optional<double> exposed = f.part("exposed_communication"), bus = f.bus_bandwidth();
  out.insert(out.end(),
             {amount_text(f.tokens_per_second), percent(efficiency(report, outcome)),
              seconds_text(f.step_seconds), exposed ? percent(*exposed / f.step_seconds) : "-",
              bytes_text(f.planned_wire), bytes_text(f.measured_wire),
              bus ? amount_text(*bus) + "B/s" : "-", bytes_text(f.planned_peak),
              bytes_text(f.measured_peak)});
  if (!predicted) return out;
  out.push_back(f.prediction ? seconds_text(f.prediction->step_seconds) : "-");
  out.push_back(f.prediction ? fmt::format("{:+.1f} %", 100.0 * f.prediction->error) : "-");
  return out;
}

void print_table(const ScaleReport& report, bool predicted) {
  std::vector<std::string> header = {"ranks",      "hosts",         "stage",        "tokens/s",
                                     "efficiency", "step",          "exposed",      "sent planned",
                                     "measured",   "bus bandwidth", "peak planned", "measured"};
  if (predicted) header.insert(header.end(), {"predicted", "error"});
  TextTable table(header);
  for (const ScaleOutcome& outcome : report.outcomes) {
    table.add(row_of(report, outcome, predicted));
  }
  const Sweep& sweep = report.sweep;
  const bool weak = sweep.scaling == Scaling::kWeak;
  fmt::print("{} scaling of {}: {} sequences a step {}\n\n{}\n", weak ? "weak" : "strong",
             sweep.config, sweep.sequences, weak ? "and rank" : "over all ranks", table.text());
  fmt::print("Medians of steps {} to {}; sent and peak are a rank's, each step.\n",
             sweep.warm_up_steps + 1, sweep.steps);
  std::set<int64_t> sharing;
  for (const ScaleOutcome& o : report.outcomes) {
    if (o.figures && o.figures->oversubscribed) sharing.insert(o.run.ranks);
  }
  if (!sharing.empty()) {
    fmt::print(
        "On {} ranks there are more threads than cores: those rates say nothing of scaling.\n",
        fmt::join(sharing, ", "));
  }
  fmt::print("{} and {} in {}\n", kScaleFile, kSvgFile, sweep.folder);
}

bool is_missing(const ScaleOutcome& outcome) {
  return outcome.status == ScaleOutcome::Status::kMissing;
}

void run_missing(ScaleReport& report, const ProcessGuard& guard, Predictors& predictors) {
  if (std::none_of(report.outcomes.begin(), report.outcomes.end(), [&](const ScaleOutcome& o) {
        return is_missing(o) || predictors.lacks(o.run);
      })) {
    return;
  }
  const ScaleLauncher launcher(report.sweep, guard, say);
  // All stages of a rank count right after it was measured: a machine's speed drifts.
  std::vector<ScaleOutcome*> order;
  for (ScaleOutcome& outcome : report.outcomes) order.push_back(&outcome);
  std::stable_sort(order.begin(), order.end(), [](const ScaleOutcome* a, const ScaleOutcome* b) {
    return a->run.ranks < b->run.ranks;
  });
  for (ScaleOutcome* next : order) {
    ScaleOutcome& outcome = *next;
    const std::string problem = predictors.measure(launcher, outcome.run);
    if (is_missing(outcome) && !problem.empty()) {
      outcome.status = ScaleOutcome::Status::kFailed;
      outcome.error = problem;
      say(fmt::format("{}: failed: {}", outcome.run.folder, problem));
    } else if (is_missing(outcome)) {
      make_run(report.sweep, launcher, outcome);
    } else if (!outcome.figures || outcome.figures->prediction) {
      continue;  // nothing new is known of it
    }
    predictors.add(outcome);
    write_scale_json(report);
  }
}

ScaleReport make_sweep(const Sweep& sweep, Predictors& predictors) {
  const ProcessGuard guard;
  if (sweep.launch == Launch::kNamespaces) {
    const std::vector<std::string> abandoned = remove_abandoned_namespaces();
    if (!abandoned.empty()) {
      say(fmt::format("removed what a killed sweep left: {}", fmt::join(abandoned, ", ")));
    }
  }
  ScaleReport report = resume(sweep, say);
  for (ScaleOutcome& outcome : report.outcomes) predictors.add(outcome);
  write_scale_json(report);
  try {
    run_missing(report, guard, predictors);
  } catch (const Interrupted& error) {
    throw Interrupted(std::string("the sweep was ") + error.what(), "",
                      "the same command goes on with it");
  }
  return report;
}

}  // namespace

ExitCode scale_verb(const ScaleOptions& options) {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) {
    throw InputError("starts mpirun itself, and is not started by it", "memwall scale");
  }
  const Sweep sweep = plan_sweep(options);
  Predictors predictors(options, sweep);  // a cluster that cannot be read leaves no folder behind
  const FolderLock lock(sweep.folder);
  const ScaleReport report = make_sweep(sweep, predictors);
  write_file_atomically(fmt::format("{}/{}", sweep.folder, kSvgFile), scale_svg(report));
  if (options.json) {
    fmt::print("{}\n", scale_json(report).dump(2));
  } else {
    print_table(report, predictors.any());
  }
  const bool failed =
      std::any_of(report.outcomes.begin(), report.outcomes.end(),
                  [](const ScaleOutcome& o) { return o.status != ScaleOutcome::Status::kDone; });
  return failed ? ExitCode::kFailed : ExitCode::kDone;
}

}  // namespace memwall
