#include "comm/shared/shared_windows.h"

#include <sys/mman.h>
#include <sys/statfs.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>

#include "comm/agree.h"
#include "runtime/base/math.h"

namespace memwall {

namespace {

constexpr int64_t kLine = 64;  // one writer a cache line

std::string mib(int64_t bytes) {
  const int64_t tenths = (bytes * 10 + (int64_t{1} << 19)) >> 20;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " MiB";
}

constexpr const char* kRemedy = "enlarge it, e.g. docker run --shm-size, or choose transport MPI";

std::string shortage(int ranks, int64_t needed, const std::string& reason) {
  return "not enough shared memory: the windows of " + std::to_string(ranks) + " ranks need " +
         mib(needed) + ", " + reason;
}

std::string free_text(const SpaceForWindows& space) {
  return space.where + " has " + mib(space.free_bytes) + " free";
}

}  // namespace

struct SharedWindows::Flags {
  alignas(kLine) int64_t published;
  alignas(kLine) int64_t taken;
  struct alignas(kLine) Line {
    SlotLabel label;
  };
  std::array<Line, kSlots> labels;
};

SpaceForWindows space_for_windows() {
  const char* chosen = std::getenv("OMPI_MCA_osc_sm_backing_directory");
  const std::string folder = chosen != nullptr ? chosen : "/dev/shm";
  struct statfs about {};
  if (statfs(folder.c_str(), &about) != 0) return {std::numeric_limits<int64_t>::max(), folder};
  return {static_cast<int64_t>(about.f_bavail) * static_cast<int64_t>(about.f_bsize), folder};
}

SharedWindows::SharedWindows(const RankGroup& group, int64_t bytes_per_rank,
                             const std::function<SpaceForWindows()>& space)
    : session_(*group.session),
      comm_(group.comm),
      rank_(group.rank),
      ranks_(group.size),
      bytes_(bytes_per_rank),
      slot_bytes_((bytes_per_rank - 2 * kPage) / kSlots / kLine * kLine),
      exceptions_at_start_(std::uncaught_exceptions()) {
  static_assert(sizeof(Flags) <= kPage && std::atomic_ref<int64_t>::is_always_lock_free);
  check(ranks_ <= session_.ranks_on_host(), "shared windows between hosts", session_.where());
  require_space(space);
  allocate(space);
  make_resident();
}

// As with the session: an exception on its way out may be this rank's alone.
SharedWindows::~SharedWindows() {
  if (std::uncaught_exceptions() == exceptions_at_start_) release();
}

void SharedWindows::release() {
  MPI_Win_unlock_all(window_);
  MPI_Win_free(&window_);
}

// Open MPI looks too, but on one rank alone, and the others then wait for it.
void SharedWindows::require_space(const std::function<SpaceForWindows()>& space) const {
  SpaceForWindows found;
  if (rank_ == 0) found = space();
  found.where.resize(256);
  session_.check(MPI_Bcast(&found.free_bytes, 1, MPI_INT64_T, 0, comm_), "MPI_Bcast");
  session_.check(
      MPI_Bcast(found.where.data(), static_cast<int>(found.where.size()), MPI_CHAR, 0, comm_),
      "MPI_Bcast");
  if (found.free_bytes >= ranks_ * bytes_) return;
  found.where.resize(std::strlen(found.where.c_str()));
  throw SharedError(shortage(ranks_, ranks_ * bytes_, free_text(found)), "", kRemedy,
                    ExitCode::kBadInput);
}

void SharedWindows::allocate(const std::function<SpaceForWindows()>& space) {
  MPI_Info info = MPI_INFO_NULL;
  session_.check(MPI_Info_create(&info), "MPI_Info_create");
  session_.check(MPI_Info_set(info, "alloc_shared_noncontig", "true"), "MPI_Info_set");
  void* mine = nullptr;
  const int status =
      MPI_Win_allocate_shared(bytes_, 1, info, comm_, static_cast<void*>(&mine), &window_);
  session_.check(MPI_Info_free(&info), "MPI_Info_free");
  if (status != MPI_SUCCESS) {  // on rank 0 alone
    throw Error(
        "MPI_Win_allocate_shared failed: " + shortage(ranks_, ranks_ * bytes_, free_text(space())),
        session_.where(), kRemedy, ExitCode::kBadInput);
  }
  session_.check(MPI_Win_lock_all(MPI_MODE_NOCHECK, window_), "MPI_Win_lock_all");
  for (int rank = 0; rank < ranks_; ++rank) {
    MPI_Aint size = 0;
    int unit = 0;
    void* base = nullptr;
    session_.check(MPI_Win_shared_query(window_, rank, &size, &unit, static_cast<void*>(&base)),
                   "MPI_Win_shared_query");
    check(size >= bytes_, "windows as large as asked for", session_.where());
    bases_.push_back(static_cast<std::byte*>(base));
  }
}

// The file behind the windows is sparse: without this a full file system would kill the ranks at
// their first access. Kernels before 5.14 do not know the request; there the pages come one by one.
void SharedWindows::make_resident() {
  int failure = 0;
  for (std::byte*& base : bases_) {
    const auto begin = reinterpret_cast<uintptr_t>(base);
    const int64_t skipped =
        round_up(static_cast<int64_t>(begin), kPage) - static_cast<int64_t>(begin);
    base += skipped;
    const auto bytes = static_cast<size_t>(bytes_ - kPage);
    if (madvise(base, bytes, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) failure = errno;
  }
  int worst = 0;
  session_.check(MPI_Allreduce(&failure, &worst, 1, MPI_INT, MPI_MAX, comm_), "MPI_Allreduce");
  if (worst == 0) return;
  release();
  const std::string reason = "which ran out on the way (" + std::string(strerror(worst)) + ")";
  throw SharedError(shortage(ranks_, ranks_ * bytes_, reason), "", kRemedy, ExitCode::kBadInput);
}

SharedWindows::Flags& SharedWindows::flags(int owner) const {
  return *reinterpret_cast<Flags*>(bases_[static_cast<size_t>(owner)]);
}

std::byte* SharedWindows::slot(int owner, int64_t round) const {
  return bases_[static_cast<size_t>(owner)] + kPage + round % kSlots * slot_bytes_;
}

void SharedWindows::publish(int64_t round, const SlotLabel& label) {
  Flags& mine = flags(rank_);
  mine.labels[static_cast<size_t>(round % kSlots)].label = label;
  std::atomic_ref(mine.published).store(round + 1, std::memory_order_release);
}

bool SharedWindows::is_published(int peer, int64_t round) const {
  return std::atomic_ref(flags(peer).published).load(std::memory_order_acquire) > round;
}

const SlotLabel& SharedWindows::label(int peer, int64_t round) const {
  return flags(peer).labels[static_cast<size_t>(round % kSlots)].label;
}

void SharedWindows::mark_taken(int64_t round) {
  std::atomic_ref(flags(rank_).taken).store(round + 1, std::memory_order_release);
}

bool SharedWindows::is_taken(int peer, int64_t round) const {
  return std::atomic_ref(flags(peer).taken).load(std::memory_order_acquire) > round;
}

}  // namespace memwall
