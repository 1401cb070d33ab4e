#include "runtime/cli/job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <sstream>
#include <vector>

#include "comm/agree.h"
#include "comm/host.h"
#include "comm/make_communicator.h"
#include "memory/arena.h"
#include "runtime/cli/cores.h"
#include "runtime/cli/gemm_warning.h"
#include "runtime/cli/settings.h"

namespace memwall {
namespace {

constexpr int kErrorLines = 5;

// OMP_NUM_THREADS may be a list, one number a nesting level; ours is the first.
int requested_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  return text == nullptr ? 0 : std::atoi(text);
}

std::vector<int> numbers_in(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<int>(in), {}};
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

void Job::connect(const config::Communication& settings) {
  connect(settings.timeout_seconds(),
          choose_fabric(fabric_request(settings), hosting_of(session())));
}

void Job::connect_for_inference(const config::Communication& settings) {
  connect(
      settings.timeout_seconds(),
      choose_fabric({.transport = {}, .algorithm = Algorithm::kPairwise}, hosting_of(session())));
}

void Job::connect(double timeout_seconds, const Fabric& fabric) {
  const int64_t shared_bytes = resident_shared_bytes();
  comm_ = make_communicator(session(), timeout_seconds, fabric);
  outside_.mark("communicator", 0);
  if (comm_->window_ranks() > 1) {
    outside_.windows_mapped = resident_shared_bytes() - shared_bytes;
  }
  place_threads();
  warn_of_slow_products(*comm_);
}

// Collective.
void Job::place_threads() {
  const std::vector<int> cores = allowed_cores();
  cores_ = user_places_threads() ? omp_get_num_procs() : static_cast<int>(cores.size());
  const std::vector<std::string> hosts = comm_->gather_text(host_name());
  const std::vector<std::string> lists =
      comm_->gather_text(fmt::format("{}", fmt::join(cores, " ")));
  std::vector<RankCores> all;
  for (size_t r = 0; r < hosts.size(); ++r) all.push_back({hosts[r], numbers_in(lists[r]), 1});
  const auto mine = static_cast<size_t>(rank());
  const int requested = requested_threads();
  threads_ = requested > 0           ? requested
             : user_places_threads() ? omp_get_max_threads()
                                     : default_threads(all, mine);

  const auto counts =
      comm_->gather_all({static_cast<double>(threads_), static_cast<double>(cores_)});
  for (size_t r = 0; r < all.size(); ++r) all[r].threads = static_cast<int>(counts[2 * r]);
  pinned_ = pin_threads(pinned_cores(all, mine));
  for (size_t r = 0; r < all.size() && speaks(); ++r) {
    if (counts[2 * r] <= counts[2 * r + 1]) continue;
    fmt::print(stderr,
               "memwall: warning: rank {} on {} has {} threads but may use {} of its host's "
               "cores (OMP_NUM_THREADS, or the launcher's binding)\n",
               r, all[r].host, counts[2 * r], counts[2 * r + 1]);
    break;
  }
}

ExitCode Job::fail(const std::exception& error) const {
  const auto* ours = dynamic_cast<const Error*>(&error);
  const ExitCode code = ours != nullptr ? ours->code() : ExitCode::kFailed;
  std::fflush(stdout);
  const bool shared = dynamic_cast<const SharedError*>(&error) != nullptr;
  if (ranks() > 1 && !shared) {
    // Rank 0 speaks first: what is bad on all ranks alike is of none.
    const bool alike = speaks() && code != ExitCode::kFailed;
    const std::string where = alike ? "" : session_->where() + ": ";
    abort_all(error_text(where + error.what()), code);
  }
  if (speaks()) fmt::print(stderr, "{}\n", error_text(error.what()));
  return code;
}

}  // namespace memwall
