#include "runtime/cli/job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "comm/agree.h"
#include "comm/host.h"
#include "comm/make_communicator.h"
#include "memory/arena.h"

namespace memwall {
namespace {

constexpr int kErrorLines = 5;

// The processors this process may run on, by number.
std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

// OMP_NUM_THREADS may be a list, one number a nesting level; ours is the first.
int requested_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  return text == nullptr ? 0 : std::atoi(text);
}

}  // namespace

std::string error_text(const std::string& message) {
  std::string text = "memwall: " + message;
  size_t end = 0;
  for (int line = 0; line < kErrorLines; ++line) {
    end = text.find('\n', end);
    if (end == std::string::npos) return text;
    ++end;
  }
  return text.substr(0, end - 1);
}

int launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    const char* text = std::getenv(name);
    if (text != nullptr) return std::atoi(text);
  }
  return 0;
}

Job::Job() {
  if (launched_by_mpi()) session_.emplace();
  outside_.baseline_bytes = resident_anonymous_bytes();
}

void Job::connect(double timeout_seconds) {
  comm_ = make_communicator(session_ ? &*session_ : nullptr, timeout_seconds);
  outside_.mark("communicator", 0);
  const std::vector<int> cores = allowed_cores();
  cores_ = static_cast<int>(cores.size());
  const std::string mine = fmt::format("{} {}", host_name(), fmt::join(cores, ","));
  const std::vector<std::string> all = comm_->gather_text(mine);
  const auto sharing = static_cast<int>(std::count(all.begin(), all.end(), mine));
  const int requested = requested_threads();
  threads_ = requested > 0 ? requested : std::max(1, cores_ / sharing);

  const auto counts =
      comm_->gather_all({static_cast<double>(threads_), static_cast<double>(cores_)});
  for (size_t r = 0; r < all.size() && speaks(); ++r) {
    const double threads = counts[2 * r], allowed = counts[2 * r + 1];
    if (threads <= allowed) continue;
    fmt::print(stderr,
               "memwall: warning: rank {} on {} has {} threads but may use {} of its host's "
               "cores (OMP_NUM_THREADS, or the launcher's binding)\n",
               r, all[r].substr(0, all[r].find(' ')), threads, allowed);
    return;
  }
}

ExitCode Job::fail(const std::exception& error) const {
  const auto* ours = dynamic_cast<const Error*>(&error);
  const ExitCode code = ours != nullptr ? ours->code() : ExitCode::kFailed;
  std::fflush(stdout);
  const bool shared = dynamic_cast<const SharedError*>(&error) != nullptr;
  if (ranks() > 1 && !shared) {
    const std::string where = speaks() ? "" : session_->where() + ": ";
    abort_all(error_text(where + error.what()), code);
  }
  if (speaks()) fmt::print(stderr, "{}\n", error_text(error.what()));
  return code;
}

}  // namespace memwall
