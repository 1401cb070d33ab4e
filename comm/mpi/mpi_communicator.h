// Collectives over Open MPI's non-blocking point-to-point calls. MPI's own collectives are not
// used: their order of summation depends on sizes and versions. All ranks walk the same messages of
// the same calls in the same order, so messages between two ranks match in order, and the earliest
// unfinished exchange of the job is in flight on both sides: there is no deadlock, however few are
// in flight at a time.
//
// Pairwise calls exchange with each other rank directly (mpi_call.h); rings and two levels are
// ring_call.h's.
#pragma once

#include <mpi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "comm/gathering_communicator.h"
#include "comm/mpi/messages.h"
#include "comm/mpi/mpi_call.h"
#include "comm/mpi/session.h"
#include "comm/shared/window_queue.h"
#include "comm/watchdog.h"

namespace memwall {

struct MpiOptions {
  double timeout_seconds = 0.0;                   // 0: a wait may last forever
  int64_t max_message_bytes = int64_t{64} << 20;  // MPI's counts are int
  int exchanges_in_flight = 8;
  // Moves transfers while the caller computes; else only calls of this class do. It takes part of a
  // core from whoever computes there.
  bool progress_thread = false;
  // Ranks of a node for two levels, whose windows they share: they follow each other, on one host,
  // and there are whole nodes of them. 1: two levels are a ring.
  int ranks_a_node = 1;
  WindowOptions windows{};
};

class MpiCommunicator final : public GatheringCommunicator {
 public:
  // Collective. `session` must outlive it. Throws a SharedError where a node's windows do not fit.
  MpiCommunicator(const MpiSession& session, const MpiOptions& options);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Transport transport() const override { return Transport::kMpi; }
  int window_ranks() const override { return ranks_a_node_; }
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes,
                    Algorithm algorithm) override;
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void* receive, Algorithm algorithm) override;
  Ticket all_reduce(double* values, int64_t count, void* receive) override;
  void progress() override;
  void wait(Ticket ticket) override;
  void broadcast(void* data, int64_t bytes, int root) override;
  void set_activity(const char* activity) override { status_.set_activity(activity); }
  const Ledger& ledger() const override { return ledger_; }

 private:
  Ticket enqueue(Collective kind, int64_t payload_bytes, std::unique_ptr<MpiCall> call);
  Ticket exchange(Collective kind, int64_t payload_bytes, std::unique_ptr<Exchange> exchange);
  void gather_bytes(const void* shard, void* whole, int64_t shard_bytes) override;
  void open_windows(const MpiOptions& options);
  int ranks_a_node(Algorithm algorithm) const;
  bool step();
  void serve(const std::stop_token& stop);

  const MpiSession& session_;
  const int rank_, size_;
  const int64_t max_message_bytes_;
  const size_t pairwise_places_;
  const int ranks_a_node_;
  const int exceptions_at_start_;
  MPI_Comm comm_ = MPI_COMM_NULL, node_comm_ = MPI_COMM_NULL;
  Ledger ledger_;
  WaitStatus status_;
  TerminationReport termination_report_;
  Watchdog watchdog_;
  std::optional<MpiMessages> messages_;
  std::optional<WindowQueue> windows_;  // of the node

  // Whoever holds the lock may move the calls; the queue's front is number completed_ + 1.
  std::mutex mutex_;
  std::deque<std::unique_ptr<MpiCall>> queue_;
  Ticket issued_ = 0, completed_ = 0;
  bool started_ = false;  // the front one

  std::condition_variable_any wake_;
  bool caller_waits_ = false;           // and moves the calls itself
  std::exception_ptr failure_;          // of the thread
  std::optional<std::jthread> thread_;  // last: it uses the members above
};

}  // namespace memwall
