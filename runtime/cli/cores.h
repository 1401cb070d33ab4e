// Which cores a rank's threads run on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace memwall {

// The processors this thread may run on, one a core (of a core's hardware threads the first that
// is allowed), by the operating system's number, ascending. At least one.
std::vector<int> allowed_cores();

// Whether the user says where OpenMP's threads go: OMP_PROC_BIND, OMP_PLACES or GOMP_CPU_AFFINITY.
// They have bound this thread by then.
bool user_places_threads();

// One rank of a job, as far as placing threads goes.
struct RankCores {
  std::string host;
  std::vector<int> cores;  // allowed
  int threads = 1;
};

// The threads a rank starts where the user does not say: its cores divided among the ranks that may
// use the same ones, at least one. `threads` are not read.
int default_threads(std::span<const RankCores> ranks, size_t rank);

// The cores, one a thread, that keep every thread of `rank` off the cores of other threads: ranks
// that share cores take them in rank order. Empty, so that the system places the threads, where the
// job does not fill the cores that these ranks share (another job may have the rest), where it has
// more threads than they have cores, or where another rank may use only some of them.
std::vector<int> pinned_cores(std::span<const RankCores> ranks, size_t rank);

// Pins the calling thread, and OpenMP's worker threads for teams of cores.size(), to one core each.
// A smaller team afterwards would end workers, and those made anew inherit this thread's core:
// every parallel region has the same number of threads, or one. Nothing where
// user_places_threads(). Returns whether threads were pinned.
bool pin_threads(std::span<const int> cores);

// Starts this program again, with the same arguments, where OpenMP would otherwise let idle threads
// spin for milliseconds, which steals the cores of whoever shares them, and the user has not said
// how they are to wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT) or where they go. libgomp reads that once,
// when it is loaded. For main(), before anything else.
void wait_briefly_when_idle(char** argv);

}  // namespace memwall
