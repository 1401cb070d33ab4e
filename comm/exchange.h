// Collectives as data: what a rank sends to and receives from each other rank, in blocks, and what
// it does once a block is complete. Transports walk these; they know nothing of transports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/dtype.h"

namespace memwall {

// Every rank walks blocks 0 ... blocks() - 1 in order and, within a block, exchanges with each
// other rank once: what `outgoing(b, q)` of rank p is, `incoming(b, p)` of rank q must be. An empty
// span is no message. Spans stay valid until `finish(b)`.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void start() {}  // before block 0
  virtual int64_t blocks() const = 0;
  virtual std::span<const std::byte> outgoing(int64_t block, int peer) const = 0;
  virtual std::span<std::byte> incoming(int64_t block, int peer) const = 0;
  virtual void finish(int64_t block) = 0;  // after both directions with all peers
};

// whole: ranks * shard_bytes; see Communicator::all_gather. A block is `block_bytes` of each shard.
class AllGather final : public Exchange {
 public:
  AllGather(int rank, const void* shard, void* whole, int64_t shard_bytes, int64_t block_bytes);
  void start() override;
  int64_t blocks() const override;
  std::span<const std::byte> outgoing(int64_t block, int peer) const override;
  std::span<std::byte> incoming(int64_t block, int peer) const override;
  void finish(int64_t) override {}

 private:
  std::span<std::byte> part(int owner, int64_t block) const;

  int rank_;
  const void* shard_;
  std::byte* whole_;
  int64_t shard_bytes_, block_bytes_;
};

// See Communicator::reduce_scatter. `receive` holds a slot for each other rank, by rank.
class ReduceScatter final : public Exchange {
 public:
  ReduceScatter(int rank, int ranks, const void* whole, void* shard, int64_t shard_elements,
                DType dtype, void* receive);
  int64_t blocks() const override;
  std::span<const std::byte> outgoing(int64_t block, int peer) const override;
  std::span<std::byte> incoming(int64_t block, int peer) const override;
  void finish(int64_t block) override;

 private:
  int64_t elements_in(int64_t block) const;
  std::span<const std::byte> contribution(int owner, int64_t block) const;

  int rank_;
  const std::byte* whole_;
  std::byte* shard_;
  int64_t shard_elements_, block_elements_;
  DType dtype_;
  std::byte* receive_;
  std::vector<const void*> terms_;  // one a rank; scratch of finish()
};

// See Communicator::all_reduce. `receive` holds `count` doubles for every rank, this one included.
class AllReduce final : public Exchange {
 public:
  AllReduce(int rank, int ranks, double* values, int64_t count, void* receive, int64_t block_bytes);
  void start() override;
  int64_t blocks() const override;
  std::span<const std::byte> outgoing(int64_t block, int peer) const override;
  std::span<std::byte> incoming(int64_t block, int peer) const override;
  void finish(int64_t block) override;

 private:
  double* values_;
  AllGather gather_;  // of the values, into `receive`
  int64_t count_;
  std::vector<const void*> terms_;
};

// From `root` to each other rank directly.
class Broadcast final : public Exchange {
 public:
  Broadcast(int rank, int root, void* data, int64_t bytes, int64_t block_bytes);
  int64_t blocks() const override;
  std::span<const std::byte> outgoing(int64_t block, int peer) const override;
  std::span<std::byte> incoming(int64_t block, int peer) const override;
  void finish(int64_t) override {}

 private:
  std::span<std::byte> part(int64_t block) const;

  int rank_, root_;
  std::byte* data_;
  int64_t bytes_, block_bytes_;
};

}  // namespace memwall
