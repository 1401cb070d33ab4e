// Collectives between the ranks of one host through shared windows: see window_queue.h.
//
// `wire_bytes` counts as if each reader had been sent its data: what a rank lays into its window
// counts once for every other rank that reads it, so that the formulas of collective.h hold as for
// MPI. The scratch arguments `receive` and the choice of an algorithm are not used: all read all
// windows, and every sum runs in rank order.
#pragma once

#include <memory>
#include <optional>

#include "comm/gathering_communicator.h"
#include "comm/mpi/session.h"
#include "comm/shared/window_queue.h"
#include "comm/watchdog.h"

namespace memwall {

struct SharedOptions {
  double timeout_seconds = 0.0;  // 0: a wait may last forever
  WindowOptions windows{};
};

class SharedCommunicator final : public GatheringCommunicator {
 public:
  // Collective; all ranks of `session`, at least two, share a host. Throws a SharedError where
  // there is too little shared memory. `session` must outlive it.
  SharedCommunicator(const MpiSession& session, const SharedOptions& options);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Transport transport() const override { return Transport::kSharedMemory; }
  int window_ranks() const override { return size_; }
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes, Algorithm) override;
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype, void*,
                        Algorithm) override;
  Ticket all_reduce(double* values, int64_t count, void*) override;
  void progress() override;
  void wait(Ticket ticket) override;
  void broadcast(void* data, int64_t bytes, int root) override;
  void set_activity(const char* activity) override { status_.set_activity(activity); }
  const Ledger& ledger() const override { return ledger_; }

 private:
  Ticket enqueue(Collective kind, int64_t bytes, int64_t payload_bytes,
                 std::unique_ptr<WindowCall> data);
  void gather_bytes(const void* shard, void* whole, int64_t shard_bytes) override;
  bool step();

  const int rank_, size_;
  Ledger ledger_;
  WaitStatus status_;
  TerminationReport termination_report_;
  Watchdog watchdog_;
  std::optional<WindowQueue> windows_;
};

}  // namespace memwall
