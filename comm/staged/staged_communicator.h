// Collectives on the memory of GPUs by way of the host: device to pinned memory, the host's
// communicator, and back. For several ranks on one GPU, which NCCL refuses, and for clusters
// without NCCL. Sums are the host's, in rank order, so that they have the bits of ranks on CPUs.
//
// A collective travels in chunks: while one is with the host's communicator, the next leaves the
// device and the one before arrives.
#pragma once

#include <deque>
#include <vector>

#include "comm/device_communicator.h"

namespace memwall {

class StagedCommunicator final : public DeviceCommunicator {
 public:
  static constexpr int64_t kChunkBytes = int64_t{8} << 20;
  static constexpr size_t kMostUnderWay = 4;  // chunks, each with pinned memory of its own

  // `host` moves what lies in pinned memory, pairwise. Both must outlive this. A chunk is of
  // `chunk_bytes`, all ranks' parts together, but a part has at least kSlotAlignment elements.
  StagedCommunicator(Device& device, Communicator& host, int64_t chunk_bytes = kChunkBytes)
      : DeviceCommunicator(device, host), chunk_bytes_(chunk_bytes) {}
  ~StagedCommunicator() override;
  StagedCommunicator(const StagedCommunicator&) = delete;
  StagedCommunicator& operator=(const StagedCommunicator&) = delete;

  Transport transport() const override { return Transport::kStaged; }

  // `receive` is not used.
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes, Algorithm) override;
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void* receive, Algorithm) override;
  Ticket all_reduce(double* values, int64_t count, void* receive) override;
  void progress() override;
  void wait(Ticket ticket) override;

  // Calls as they were made; the bytes sent are those that the host's communicator has counted.
  const Ledger& ledger() const override;

  // Pinned memory that transfers have taken so far.
  int64_t pinned_bytes() const { return pinned_bytes_; }

 private:
  struct Buffer {
    std::byte* data = nullptr;
    int64_t bytes = 0;
    bool taken = false;
  };
  enum class State : uint8_t { kQueued, kLeaving, kMoving, kArriving };
  // A chunk: elements [first, first + count) of every rank's part. In its buffer the parts lie
  // behind each other, and then the host's scratch.
  struct Chunk {
    Collective kind = Collective::kOther;
    DType dtype = DType::kF64;
    std::byte* whole = nullptr;  // on the device
    std::byte* shard = nullptr;
    int64_t part_bytes = 0;     // between two ranks' parts of `whole`
    int64_t at = 0, bytes = 0;  // of a part
    State state = State::kQueued;
    size_t buffer = 0;
    Device::Mark mark = 0;  // on the device: it has left, or has arrived
    Ticket host_ticket = 0;
  };

  Ticket add(const Chunk& call);
  size_t take_buffer(int64_t bytes);
  int64_t scratch_bytes(const Chunk& chunk) const;
  int64_t parts(const Chunk& chunk) const;
  bool awaits_another(size_t chunk) const;
  void leave(Chunk& chunk);
  void move(Chunk& chunk);
  void arrive(Chunk& chunk);
  void pump();
  void finish(size_t chunk);
  std::byte* in_buffer(const Chunk& chunk, int64_t part) const {
    return buffers_[chunk.buffer].data + part * chunk.bytes;
  }

  const int64_t chunk_bytes_;
  mutable Ledger ledger_;
  std::vector<Buffer> buffers_;
  std::deque<Chunk> chunks_;  // not yet known to have arrived
  Ticket first_ = 1;          // ticket of the first of them: chunks are numbered
  int64_t pinned_bytes_ = 0;
};

}  // namespace memwall
