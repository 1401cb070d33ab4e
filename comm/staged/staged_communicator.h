// Collectives on the memory of GPUs by way of the host: device to pinned memory, the host's
// communicator, and back. For several ranks on one GPU, which NCCL refuses, and for clusters
// without NCCL. Sums are the host's, in rank order, so that they have the bits of ranks on CPUs.
#pragma once

#include <deque>
#include <vector>

#include "comm/communicator.h"
#include "runtime/base/device.h"

namespace memwall {

class StagedCommunicator final : public Communicator {
 public:
  // `host` moves what lies in pinned memory, by algorithm kPairwise. Both must outlive this.
  StagedCommunicator(Device& device, Communicator& host) : device_(device), host_(host) {}
  ~StagedCommunicator() override;
  StagedCommunicator(const StagedCommunicator&) = delete;
  StagedCommunicator& operator=(const StagedCommunicator&) = delete;

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  Transport transport() const override { return Transport::kStaged; }

  // Of device memory; `receive` is not used. A wait makes the compute queue follow the result.
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes, Algorithm) override;
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void* receive, Algorithm) override;
  Ticket all_reduce(double* values, int64_t count, void* receive) override;
  void progress() override;
  void wait(Ticket ticket) override;

  // Of host memory, as the host's communicator does it.
  void barrier() override { host_.barrier(); }
  void broadcast(void* data, int64_t bytes, int root) override {
    host_.broadcast(data, bytes, root);
  }
  std::vector<double> gather_all(const std::vector<double>& mine) override {
    return host_.gather_all(mine);
  }
  std::vector<std::string> gather_text(const std::string& mine) override {
    return host_.gather_text(mine);
  }
  void set_activity(const char* activity) override { host_.set_activity(activity); }
  const Ledger& ledger() const override { return host_.ledger(); }

  // Pinned memory that transfers have taken so far.
  int64_t pinned_bytes() const { return pinned_bytes_; }

 private:
  struct Buffer {
    std::byte* data = nullptr;
    int64_t bytes = 0;
    bool taken = false;
  };
  enum class State : uint8_t { kQueued, kLeaving, kMoving, kDone };
  struct Call {
    Collective kind;
    State state = State::kQueued;
    DType dtype = DType::kF64;
    int64_t shard_bytes = 0, shard_elements = 0;
    size_t buffer = 0;  // holds whole, shard and scratch
    int64_t shard_at = 0, scratch_at = 0;  // in the buffer
    const void* source = nullptr;  // on the device
    int64_t source_bytes = 0, source_at = 0;
    void* result = nullptr;  // on the device
    int64_t result_bytes = 0, result_at = 0;
    Device::Mark mark = 0;  // on the device: it has left, or has arrived
    Ticket host_ticket = 0;
  };

  size_t take_buffer(int64_t bytes);
  Ticket start(Call call, const void* from, int64_t bytes, int64_t at);
  void leave(Call& call);
  bool advance(Call& call, bool block);
  Ticket start_on_host(Call& call);
  std::byte* at(const Call& call, int64_t offset) const {
    return buffers_[call.buffer].data + offset;
  }

  Device& device_;
  Communicator& host_;
  std::vector<Buffer> buffers_;
  std::deque<Call> calls_;  // unfinished, and those before `first_`'s successors
  Ticket first_ = 1;        // of calls_
  int64_t pinned_bytes_ = 0;
};

}  // namespace memwall
