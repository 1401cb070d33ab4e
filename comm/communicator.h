// Collectives between ranks. Calls are made in the same order on all ranks (the plan's order), are
// queued first in, first out, and complete when waited for; buffers belong to the caller and must
// stay untouched in between. Every sum runs in an order that its algorithm states, so results
// depend on neither timing nor transport.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/ledger.h"
#include "runtime/base/collective.h"
#include "runtime/base/dtype.h"

namespace memwall {

using Ticket = int64_t;

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual Transport transport() const = 0;
  virtual int window_ranks() const { return 1; }  // that share windows of memory with this one

  // whole: size() * shard_bytes. `shard` may be this rank's slice of `whole` (in place) or lie
  // outside it.
  virtual Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes,
                            Algorithm algorithm = Algorithm::kPairwise) = 0;

  // whole: size() * shard_elements of `dtype`, this rank's contribution; shard: the sum over ranks
  // of this rank's slice, added in FP32 (FP64 for FP64) in the algorithm's order (NCCL's: in its
  // own order and precision, the same in every call). kPairwise rounds it to `dtype` once; the
  // others do at each hop, for partial sums travel as `dtype`: kRing N - 1 times, kTwoLevel once
  // inside the node and then M - 1 times. `shard` may be this rank's slice of `whole`. `receive`:
  // reduce_scatter_receive_bytes(...) bytes of scratch.
  virtual Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                                void* receive, Algorithm algorithm = Algorithm::kPairwise) = 0;

  // In place; the sum in rank order. Scalars only. `receive`: all_reduce_receive_bytes(...).
  virtual Ticket all_reduce(double* values, int64_t count, void* receive) = 0;

  virtual void progress() = 0;           // moves what can be moved without blocking
  virtual void wait(Ticket ticket) = 0;  // until that call, and all before it, are complete

  // Blocking, for start-up, evaluation and saving: they do not count as the step's traffic.
  virtual void barrier() = 0;
  virtual void broadcast(void* data, int64_t bytes, int root) = 0;
  // out: size() * count doubles, rank by rank.
  virtual std::vector<double> gather_all(const std::vector<double>& mine) = 0;
  virtual std::vector<std::string> gather_text(const std::string& mine) = 0;

  // What this rank is doing, for the message of a time-out: a plan step's name. The pointer must
  // stay valid until the next call.
  virtual void set_activity(const char* activity) = 0;

  // Gives up what is under way, without waiting for anybody: the caller is leaving by an error, and
  // frees the buffers next. Nothing may be called afterwards. Does not throw.
  virtual void abandon() {}

  virtual const Ledger& ledger() const = 0;

  // When a call that was waited for had completed, in nanoseconds of the steady clock (polled
  // transports: when that was noticed). Of the latest kRemembered calls.
  static constexpr size_t kRemembered = 4096;
  int64_t completed_ns(Ticket ticket) const {
    return completed_ns_[static_cast<size_t>(ticket) % kRemembered];
  }

 protected:
  void note_completed(Ticket ticket) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    completed_ns_[static_cast<size_t>(ticket) % kRemembered] =
        std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  }

 private:
  std::array<int64_t, kRemembered> completed_ns_{};
};

}  // namespace memwall
