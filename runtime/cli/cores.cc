#include "runtime/cli/cores.h"

#include <hwloc.h>
#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>

#include "runtime/base/error.h"

namespace memwall {
namespace {

struct Destroy {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, Destroy>;

struct Free {
  void operator()(hwloc_bitmap_s* bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, Free>;

// Of cores and their hardware threads; null where the system does not say.
Topology load_topology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  Topology topology(raw);
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_type_filter(raw, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (hwloc_topology_load(raw) != 0) return nullptr;
  return topology;
}

bool is_set(const char* variable) {
  return std::getenv(variable) != nullptr;
}

}  // namespace

std::vector<int> allowed_cores() {
  const Topology topology = load_topology();
  const Bitmap allowed(hwloc_bitmap_alloc());
  std::vector<int> cores;
  if (topology == nullptr || allowed == nullptr ||
      hwloc_get_cpubind(topology.get(), allowed.get(), HWLOC_CPUBIND_THREAD) != 0) {
    return {0};
  }
  hwloc_obj_t core = nullptr;
  while ((core = hwloc_get_next_obj_by_type(topology.get(), HWLOC_OBJ_CORE, core)) != nullptr) {
    const Bitmap usable(hwloc_bitmap_dup(core->cpuset));
    hwloc_bitmap_and(usable.get(), usable.get(), allowed.get());
    const int first = hwloc_bitmap_first(usable.get());
    if (first >= 0) cores.push_back(first);
  }
  if (cores.empty()) return {0};
  return cores;
}

bool user_places_threads() {
  return is_set("OMP_PROC_BIND") || is_set("OMP_PLACES") || is_set("GOMP_CPU_AFFINITY");
}

int default_threads(std::span<const RankCores> ranks, size_t rank) {
  const auto sharing = std::count_if(ranks.begin(), ranks.end(), [&](const RankCores& other) {
    return other.host == ranks[rank].host && other.cores == ranks[rank].cores;
  });
  return std::max(1, static_cast<int>(ranks[rank].cores.size()) / static_cast<int>(sharing));
}

std::vector<int> pinned_cores(std::span<const RankCores> ranks, size_t rank) {
  const RankCores& mine = ranks[rank];
  size_t before = 0, all = 0;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const RankCores& other = ranks[r];
    if (other.host != mine.host) continue;
    if (other.cores == mine.cores) {
      if (r < rank) before += static_cast<size_t>(other.threads);
      all += static_cast<size_t>(other.threads);
    } else if (std::find_first_of(other.cores.begin(), other.cores.end(), mine.cores.begin(),
                                  mine.cores.end()) != other.cores.end()) {
      return {};
    }
  }
  if (all != mine.cores.size()) return {};
  const auto first = mine.cores.begin() + static_cast<int64_t>(before);
  return {first, first + mine.threads};
}

bool pin_threads(std::span<const int> cores) {
  if (cores.empty() || user_places_threads()) return false;
  bool pinned = true;
#pragma omp parallel num_threads(static_cast<int>(cores.size())) reduction(&& : pinned) \
    if (cores.size() > 1)
  for (const int core : cores.subspan(static_cast<size_t>(omp_get_thread_num()), 1)) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    pinned = pinned && sched_setaffinity(0, sizeof(set), &set) == 0;
  }
  return pinned;
}

void wait_briefly_when_idle(char** argv) {
  // A bound process would hand its binding, which is to one place, on to its second self.
  if (is_set("OMP_WAIT_POLICY") || is_set("GOMP_SPINCOUNT") || user_places_threads()) return;
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || std::string_view(self).find("/ld-linux") != std::string_view::npos) return;
  // Some 20 microseconds: longer than most gaps between the parallel loops of a step, and as fast
  // as spinning for ever on idle cores; sleeping at once (PASSIVE) made steps of two threads 1.3
  // times as long.
  if (setenv("GOMP_SPINCOUNT", "10000", 1) != 0) return;
  execv(self.c_str(), argv);
  // Not to be had: slower beside other programs, and no worse.
}

}  // namespace memwall
