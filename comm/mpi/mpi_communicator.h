// Collectives over Open MPI's non-blocking point-to-point calls, pairwise: in its k-th exchange of
// a block rank r sends to r + k and receives from r - k (mod N). MPI's own collectives are not
// used: their order of summation depends on sizes and versions. All ranks walk the same exchanges
// of the same calls in the same order, so messages between two ranks match in order, and the
// earliest unfinished exchange of the job is in flight on both sides: there is no deadlock, however
// few are in flight at a time.
#pragma once

#include <mpi.h>

#include <deque>
#include <memory>
#include <span>

#include "comm/exchange.h"
#include "comm/gathering_communicator.h"
#include "comm/mpi/session.h"
#include "comm/watchdog.h"

namespace memwall {

struct MpiOptions {
  double timeout_seconds = 0.0;                   // 0: a wait may last forever
  int64_t max_message_bytes = int64_t{64} << 20;  // MPI's counts are int
  int exchanges_in_flight = 8;
};

class MpiCommunicator final : public GatheringCommunicator {
 public:
  // Collective. `session` must outlive it.
  MpiCommunicator(const MpiSession& session, const MpiOptions& options);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Transport transport() const override { return Transport::kMpi; }
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes) override;
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void* receive) override;
  Ticket all_reduce(double* values, int64_t count, void* receive) override;
  void progress() override;
  void wait(Ticket ticket) override;
  void broadcast(void* data, int64_t bytes, int root) override;
  void set_activity(const char* activity) override { status_.set_activity(activity); }
  const Ledger& ledger() const override { return ledger_; }

 private:
  struct Call {
    Collective kind;
    std::unique_ptr<Exchange> exchange;
  };
  struct Message {  // in flight, beside its request
    int peer = 0;
    int64_t bytes = 0;
  };

  Ticket enqueue(Collective kind, int64_t payload_bytes, std::unique_ptr<Exchange> exchange);
  void gather_bytes(const void* shard, void* whole, int64_t shard_bytes) override;
  bool step();
  void post_exchanges(const Call& call);
  bool collect_finished();
  void check_finished(int count) const;
  void send(Collective kind, int peer, std::span<const std::byte> data, size_t slot);
  void receive(int peer, std::span<std::byte> data, size_t slot);

  const MpiSession& session_;
  const int rank_, size_;
  const int64_t max_message_bytes_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  Ledger ledger_;
  const int exceptions_at_start_;

  std::deque<Call> queue_;  // the front one is call number completed_ + 1
  Ticket issued_ = 0, completed_ = 0;

  // How far the front call is.
  bool started_ = false;
  int64_t block_ = 0;
  int next_distance_ = 1;  // k of the next exchange to post

  // Exchange slot i holds a receive at 2 i and a send at 2 i + 1.
  std::vector<MPI_Request> requests_;
  std::vector<Message> messages_;
  std::vector<int> finished_;  // scratch of collect_finished()
  std::vector<MPI_Status> statuses_;

  WaitStatus status_;
  TerminationReport termination_report_;
  Watchdog watchdog_;
};

}  // namespace memwall
