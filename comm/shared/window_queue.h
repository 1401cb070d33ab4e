// Collectives between ranks of one host through MPI shared windows, queued first in, first out.
// Data are staged block by block: each rank copies what others need from its own memory into its
// window, once, and reads theirs in place; a sum reads all its terms at once. No call of MPI after
// construction.
//
// All ranks walk the same blocks of the same calls in the same order; the earliest block of the job
// that is unfinished waits for nobody but ranks that have yet to come to it. So there is no
// deadlock, whatever is waited for and when.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "comm/ledger.h"
#include "comm/mpi/rank_group.h"
#include "comm/shared/shared_windows.h"
#include "comm/shared/window_call.h"
#include "comm/watchdog.h"
#include "runtime/base/collective.h"

namespace memwall {

struct WindowOptions {
  int64_t window_bytes = kWindowBytes;
  std::function<SpaceForWindows()> space = space_for_windows;
};

class WindowQueue {
 public:
  // Collective over `group`, at least two ranks of a host. Throws a SharedError on all of them
  // where there is too little shared memory. What leaves this rank counts in `ledger`, as if each
  // reader had been sent its data; `status` learns whom this rank waits for. All must outlive it.
  WindowQueue(const RankGroup& group, const WindowOptions& options, Ledger& ledger,
              WaitStatus& status);

  int rank() const { return group_.rank; }
  int size() const { return group_.size; }
  int64_t slot_bytes() const { return windows_.slot_bytes(); }

  // The number of the call, from 1; `bytes` tell calls of one kind apart, to find ranks that
  // differ.
  int64_t push(Collective kind, int64_t bytes, std::unique_ptr<WindowCall> data);
  int64_t pushed() const { return pushed_; }
  int64_t completed() const { return completed_; }

  // Moves the front call by what can be done without blocking. False: nothing moved.
  bool step();

 private:
  struct Call {
    Collective kind;
    SlotLabel label;  // without number and block
    std::unique_ptr<WindowCall> data;
  };

  bool advance();
  bool put_block(const Call& call);
  bool take_block(const Call& call);
  void write(Collective kind, const WindowPart& part);
  void check_label(int peer, const SlotLabel& due) const;
  SlotLabel label_of(const Call& call, int64_t block) const;
  bool due(int peer) const;
  void note_missing();

  const RankGroup group_;
  Ledger& ledger_;
  WaitStatus& status_;
  SharedWindows windows_;

  std::deque<Call> queue_;  // the front one is call number completed_ + 1
  int64_t pushed_ = 0, completed_ = 0;

  // Rounds of the windows: the front call, once started, has first_ ... end_ - 1. Between calls all
  // of them are equal.
  bool started_ = false;
  int64_t first_ = 0, end_ = 0;
  int64_t put_ = 0, taken_ = 0;    // the next round to lay, to read
  std::vector<WindowPart> parts_;  // scratch of put_block()

  std::vector<bool> missing_;  // peers that status_ expects
  bool any_missing_ = false;
};

}  // namespace memwall
