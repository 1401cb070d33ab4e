// Times collectives over one transport beside another, and checks every result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "runtime/cli/samples.h"

namespace memwall {

// Blocking collectives of one transport. `receive` is scratch of receive_bytes() bytes.
struct CollectiveSide {
  std::string name;
  // whole: ranks * part elements
  std::function<void(const float* whole, float* shard, int64_t part, std::byte* receive)>
      reduce_scatter;
  std::function<void(const float* shard, float* whole, int64_t part)> all_gather;
  std::function<void(double* values, int64_t count, std::byte* receive)> all_reduce;  // in place
  std::function<void(std::byte* data, int64_t bytes)> broadcast;                      // from rank 0
};

// `comm` must outlive it.
CollectiveSide side_of(const std::string& name, Communicator& comm,
                       Algorithm algorithm = Algorithm::kPairwise);
// MPI_Reduce_scatter_block, MPI_Allgather, MPI_Allreduce and MPI_Bcast as they come. MPI is
// initialised.
CollectiveSide mpi_library_side();

struct CollectiveTimes {
  std::string collective, side;
  int64_t bytes = 0;      // of input a rank
  int64_t bus_bytes = 0;  // that a rank must at least receive: (N-1)/N of a buffer and the like
  Samples seconds;        // of the job: every rank's call
};

struct CollectiveRounds {
  std::vector<int64_t> sizes;  // bytes of input a rank, multiples of least_bytes(ranks)
  int64_t rounds = 1;          // of each size
  // The ranks share a clock, and a round lasts from the first call's begin to the last one's end;
  // else as long as the longest call.
  bool one_host = false;
  // Of rest before each round: in a training step links rest while ranks compute.
  double rest_seconds = 0.0;
  // Of a size over all sides, about: beyond it at most kLeastRounds rounds, beyond three times as
  // much one, and no larger size of a collective of which one round took as long.
  double limit_seconds = 1e9;
  // Which to measure; empty: all.
  std::function<bool(const std::string& collective, int64_t bytes)> wanted{};
};
constexpr int64_t kLeastRounds = 3;

// Runs every collective of each side in turn, `rounds` times after one that is not timed, for each
// size. Buffers lie in an arena of this rank. Every result is compared, by checksum, with what
// arithmetic says it must be; throws a SharedError on all ranks where one differs. Collective over
// `comm`, which also brings the ranks together between rounds.
std::vector<CollectiveTimes> measure_collectives(Communicator& comm,
                                                 std::span<const CollectiveSide> sides,
                                                 const CollectiveRounds& work);

// Whole elements for every rank, in FP32 and FP64.
constexpr int64_t least_bytes(int64_t ranks) {
  return 8 * ranks;
}

}  // namespace memwall
