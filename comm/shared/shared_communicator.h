// Collectives between ranks of one host through MPI shared windows. Data are staged block by block:
// each rank copies what others need from its own memory into its window, once, and reads theirs in
// place; a sum reads all its terms at once. No call of MPI after construction.
//
// `wire_bytes` counts as if each reader had been sent its data: what a rank lays into its window
// counts once for every other rank that reads it, so that the formulas of collective.h hold as for
// MPI. The scratch arguments `receive` are not used.
//
// All ranks walk the same blocks of the same calls in the same order; the earliest block of the job
// that is unfinished waits for nobody but ranks that have yet to come to it. So there is no
// deadlock, whatever is waited for and when.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "comm/gathering_communicator.h"
#include "comm/mpi/session.h"
#include "comm/shared/shared_windows.h"
#include "comm/shared/window_call.h"
#include "comm/watchdog.h"

namespace memwall {

struct SharedOptions {
  double timeout_seconds = 0.0;  // 0: a wait may last forever
  int64_t window_bytes = kWindowBytes;
  std::function<SpaceForWindows()> space = space_for_windows;
};

class SharedCommunicator final : public GatheringCommunicator {
 public:
  // Collective; all ranks of `session`, at least two, share a host. Throws a SharedError where
  // there is too little shared memory. `session` must outlive it.
  SharedCommunicator(const MpiSession& session, const SharedOptions& options);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Transport transport() const override { return Transport::kSharedMemory; }
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes) override;
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void*) override;
  Ticket all_reduce(double* values, int64_t count, void*) override;
  void progress() override;
  void wait(Ticket ticket) override;
  void broadcast(void* data, int64_t bytes, int root) override;
  void set_activity(const char* activity) override { status_.set_activity(activity); }
  const Ledger& ledger() const override { return ledger_; }

 private:
  struct Call {
    Collective kind;
    SlotLabel label;  // without number and block
    std::unique_ptr<WindowCall> data;
  };

  Ticket enqueue(Call call, int64_t payload_bytes);
  void gather_bytes(const void* shard, void* whole, int64_t shard_bytes) override;
  bool step();
  bool advance();
  bool put_block(const Call& call);
  bool take_block(const Call& call);
  void write(Collective kind, const WindowPart& part);
  void check_label(int peer, const SlotLabel& due) const;
  SlotLabel label_of(const Call& call, int64_t block) const;
  bool due(int peer) const;
  void note_missing();

  const MpiSession& session_;
  const int rank_, size_;
  Ledger ledger_;

  std::deque<Call> queue_;  // the front one is call number completed_ + 1
  Ticket issued_ = 0, completed_ = 0;

  // Rounds of the windows: the front call, once started, has first_ ... end_ - 1. Between calls all
  // of them are equal.
  bool started_ = false;
  int64_t first_ = 0, end_ = 0;
  int64_t put_ = 0, taken_ = 0;    // the next round to lay, to read
  std::vector<WindowPart> parts_;  // scratch of put_block()

  WaitStatus status_;
  std::vector<bool> missing_;  // peers that status_ expects
  bool any_missing_ = false;
  TerminationReport termination_report_;
  Watchdog watchdog_;
  std::unique_ptr<SharedWindows> windows_;
};

}  // namespace memwall
