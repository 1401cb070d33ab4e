// Which cores a rank's threads run on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace memwall {

// The processors this thread may run on, one a core (of a core's hardware threads the first that
// is allowed), by the operating system's number. At least one.
std::vector<int> allowed_cores();

// One rank of a host, as far as placing threads goes.
struct RankCores {
  std::string host_and_cores;  // equal where ranks may use the same cores
  int cores = 1;               // how many those are
  int threads = 1;
};

// The threads a rank starts where the user does not say: the cores divided among the ranks that may
// use the same ones, at least one.
int default_threads(std::span<const std::string> host_and_cores, size_t rank, int cores);

// The places among its allowed cores, one a thread, that keep every thread of `rank` off the cores
// of other threads: ranks that share cores take them in rank order. Empty where there are fewer
// cores than threads; the system places them then.
std::vector<int> pinned_places(std::span<const RankCores> ranks, size_t rank);

// Pins the calling thread, and OpenMP's worker threads for teams of cores.size(), to one core each.
// Nothing where the user has placed OpenMP's threads (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY).
// Returns whether threads were pinned.
bool pin_threads(std::span<const int> cores);

// Starts this program again, with the same arguments, where OpenMP would otherwise let idle threads
// spin for milliseconds, which steals the cores of whoever shares them, and the user has not said
// how they are to wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT). libgomp reads that once, when it is
// loaded. For main(), before anything else.
void wait_briefly_when_idle(char** argv);

}  // namespace memwall
