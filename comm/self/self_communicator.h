// The communicator of a job of one process: no MPI, every call is complete when it returns. It can
// also stand in for a larger job's, whose ranks then each go on as if the others had the same data:
// for timing a rank's own work.
#pragma once

#include "comm/communicator.h"

namespace memwall {

class SelfCommunicator final : public Communicator {
 public:
  SelfCommunicator() = default;
  SelfCommunicator(int rank, int size, Transport transport)
      : rank_(rank), size_(size), transport_(transport) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Transport transport() const override { return transport_; }
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes, Algorithm) override;
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void* receive, Algorithm) override;
  Ticket all_reduce(double* values, int64_t count, void* receive) override;
  void progress() override {}
  void wait(Ticket ticket) override;
  void barrier() override;
  void broadcast(void* data, int64_t bytes, int root) override;
  std::vector<double> gather_all(const std::vector<double>& mine) override;
  std::vector<std::string> gather_text(const std::string& mine) override;
  void set_activity(const char*) override {}
  const Ledger& ledger() const override { return ledger_; }

 private:
  Ticket count(Collective kind, int64_t payload_bytes);

  const int rank_ = 0, size_ = 1;
  const Transport transport_ = Transport::kMpi;
  Ledger ledger_;
  Ticket issued_ = 0;
};

}  // namespace memwall
