#include "runtime/cli/scale_launch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "runtime/cli/cores.h"
#include "runtime/cli/scale_figures.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr double kAnswerSeconds = 8.0;  // of a host that is asked for the first time
constexpr size_t kShownLines = 5;

int64_t most_ranks(const Sweep& sweep) {
  int64_t out = 1;
  for (const ScaleRun& run : sweep.runs) out = std::max(out, run.ranks);
  return out;
}

int64_t most_hosts(const Sweep& sweep) {
  int64_t out = 1;
  for (const ScaleRun& run : sweep.runs) out = std::max(out, run.placement.hosts);
  return out;
}

std::vector<std::string> launcher_words(const Sweep& sweep, const ScaleRun& run, int64_t cores,
                                        const NamespaceHosts* namespaces) {
  switch (sweep.launch) {
    case Launch::kLocal: return local_mpirun(run.ranks, run.ranks * sweep.threads > cores);
    case Launch::kHosts: return hosts_mpirun(sweep.hosts, run.placement);
    case Launch::kSlurm: return slurm_srun(run.placement);
    case Launch::kNamespaces: break;
  }
  std::vector<std::string> out =
      namespaces->mpirun(run.placement.hosts, run.placement.ranks_a_host);
  out.insert(out.end(),
             {"--bind-to", "none", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"});
  return out;
}

void add_sets(const std::vector<std::string>& sets, std::vector<std::string>& words) {
  for (const std::string& set : sets) words.insert(words.end(), {"--set", set});
}

std::vector<std::string> train_words(const Sweep& sweep, const ScaleRun& run) {
  std::vector<std::string> out = {"train", sweep.config, "--run-dir", run_path(sweep, run)};
  add_sets(train_sets(run), out);
  return out;
}

// What it said last of its own accord, else how it ended.
std::string error_of(const Ended& ended, const std::string& log) {
  for (const std::string& line : last_lines(log, 200)) {
    if (line.starts_with("memwall: ") && !line.starts_with("memwall: warning:")) return line;
  }
  return fmt::format("ended with exit code {}", ended.exit_code);
}

}  // namespace

Command command_on(const Sweep& sweep, const ScaleRun& run, const std::string& memwall,
                   const std::vector<std::string>& words, int64_t cores,
                   const NamespaceHosts* namespaces) {
  Command out{launcher_words(sweep, run, cores, namespaces), {}};
  if (sweep.threads > 0)
    out.environment.push_back(fmt::format("OMP_NUM_THREADS={}", sweep.threads));
  if (sweep.launch != Launch::kSlurm) {
    const std::vector<std::string> as_root = root_environment();
    out.environment.insert(out.environment.end(), as_root.begin(), as_root.end());
    if (sweep.threads > 0) out.words.insert(out.words.end(), {"-x", "OMP_NUM_THREADS"});
    out.words.insert(out.words.end(), {"-np", std::to_string(run.ranks)});
  }
  out.words.push_back(memwall);
  out.words.insert(out.words.end(), words.begin(), words.end());
  return out;
}

Command train_command(const Sweep& sweep, const ScaleRun& run, const std::string& memwall,
                      int64_t cores, const NamespaceHosts* namespaces) {
  return command_on(sweep, run, memwall, train_words(sweep, run), cores, namespaces);
}

ScaleLauncher::ScaleLauncher(const Sweep& sweep, const ProcessGuard& guard,
                             const std::function<void(const std::string&)>& say)
    : sweep_(sweep),
      guard_(guard),
      memwall_(fs::read_symlink("/proc/self/exe")),
      cores_(static_cast<int64_t>(allowed_cores().size())) {
  const std::string program = sweep.launch == Launch::kSlurm ? "srun" : "mpirun";
  if (!is_in_path(program)) {
    throw InputError(fmt::format("the program {} is not in PATH", program), "",
                     program == "srun" ? "--slurm needs Slurm" : "install the package openmpi-bin");
  }
  if (sweep.launch == Launch::kHosts) {
    const auto used = static_cast<ptrdiff_t>(most_hosts(sweep));
    try_hosts({sweep.hosts.begin(), sweep.hosts.begin() + used}, {memwall_, "--version"},
              fmt::format("memwall {},", MEMWALL_VERSION), kAnswerSeconds);
  }
  if (sweep.launch != Launch::kNamespaces) return;
  check_can_make_namespaces();
  // Processes that are free to move share a core now and then, and are slow for a whole run.
  const int64_t hosts = most_hosts(sweep), a_host = std::max<int64_t>(1, cores_ / hosts);
  const bool fits = std::max<int64_t>(1, sweep.threads) * sweep.ranks_a_host <= a_host;
  namespaces_.emplace(hosts, parse_link_rate(sweep.link), sweep.folder,
                      fits ? allowed_cores() : std::vector<int>());
  say(fmt::format("{} hosts, {} to {}, on links of {}", most_hosts(sweep), namespaces_->name(1),
                  namespaces_->name(most_hosts(sweep)), sweep.link));
  if (most_ranks(sweep) > cores_) {
    say(fmt::format("up to {} ranks share {} cores: compute slows down as ranks are added",
                    most_ranks(sweep), cores_));
  }
}

ScaleLauncher::Result ScaleLauncher::start(const ScaleRun& run,
                                           const std::vector<std::string>& words,
                                           const std::string& log) const {
  guard_.check_signals();
  const NamespaceHosts* namespaces = namespaces_ ? &*namespaces_ : nullptr;
  const int64_t before = namespaces == nullptr ? 0 : namespaces->sent_bytes(1);
  const Ended ended =
      memwall::run(command_on(sweep_, run, memwall_, words, cores_, namespaces), log);
  Result out;
  if (namespaces != nullptr) out.link_bytes = namespaces->sent_bytes(1) - before;
  if (ended.ok()) return out;
  out.error = error_of(ended, log);
  out.last_lines = last_lines(log, kShownLines);
  return out;
}

ScaleLauncher::Result ScaleLauncher::train(const ScaleRun& run) const {
  return start(run, train_words(sweep_, run), run_path(sweep_, run) + ".log");
}

ScaleLauncher::Result ScaleLauncher::calibrate(const ScaleRun& run) const {
  const std::string& file = run.cluster;
  const std::string unfinished = file + ".unfinished";
  fs::remove(unfinished);
  std::vector<std::string> machine = {"bench", "machine", sweep_.config, "--fit", unfinished};
  add_sets(run.sets, machine);
  Result out = start(run, machine, file + ".log");
  if (out.error.empty() && run.ranks > 1) {
    out = start(run, {"bench", "collectives", "--fit", unfinished}, file + ".links.log");
  }
  if (out.error.empty()) fs::rename(unfinished, file);
  return out;
}

}  // namespace memwall
