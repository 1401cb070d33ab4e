// One window of memory a rank that all ranks of a host map: flags, and slots that carry the blocks
// of collectives in rounds 0, 1, 2, ..., round r in slot r mod kSlots. Each flag has one writer:
//
//   published[p]  rounds that rank p has laid into its window
//   taken[p]      rounds that rank p has read in all windows
//
// A rank reads round r of p once published[p] > r, and lays round r once taken[q] > r - kSlots for
// all q. Both are counted up with release and read with acquire, so that data follow their flags.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/mpi/rank_group.h"

namespace memwall {

struct SpaceForWindows {
  int64_t free_bytes = 0;
  std::string where;  // the folder of the file system that holds shared memory
};

// Of the host's shared memory as Open MPI places it. Unlimited where the system does not say.
SpaceForWindows space_for_windows();

// Which block of which call a slot carries: equal on all ranks, or their collectives differ.
struct SlotLabel {
  int64_t call = 0, kind = 0, bytes = 0, block = 0;
  bool operator==(const SlotLabel&) const = default;
};

class SharedWindows {
 public:
  static constexpr int kSlots = 4;
  static constexpr int64_t kPage = 4096;  // flags fill one; as much may go into alignment

  // Collective over the group's ranks, which must share a host. `space` is asked on its rank 0.
  // Where it is too small, or the memory cannot be had, each of its ranks throws the same
  // SharedError; all of it is resident when the constructor returns.
  SharedWindows(const RankGroup& group, int64_t bytes_per_rank,
                const std::function<SpaceForWindows()>& space);
  ~SharedWindows();
  SharedWindows(const SharedWindows&) = delete;
  SharedWindows& operator=(const SharedWindows&) = delete;

  int64_t slot_bytes() const { return slot_bytes_; }
  std::byte* slot(int owner, int64_t round) const;

  void publish(int64_t round, const SlotLabel& label);
  bool is_published(int peer, int64_t round) const;
  const SlotLabel& label(int peer, int64_t round) const;  // of a round that is published
  void mark_taken(int64_t round);
  bool is_taken(int peer, int64_t round) const;

 private:
  struct Flags;
  Flags& flags(int owner) const;
  void require_space(const std::function<SpaceForWindows()>& space) const;
  void allocate(const std::function<SpaceForWindows()>& space);
  void make_resident();
  void release();

  const MpiSession& session_;
  MPI_Comm comm_;
  const int rank_, ranks_;
  const int64_t bytes_, slot_bytes_;
  MPI_Win window_ = MPI_WIN_NULL;
  std::vector<std::byte*> bases_;  // by rank
  const int exceptions_at_start_;
};

}  // namespace memwall
