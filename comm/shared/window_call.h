// Collectives as data, as exchange.h has them, for ranks that read each other's windows: what a
// rank lays into its slot for a block, what it reads from each other rank's slot, and what it does
// once it may read all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/dtype.h"

namespace memwall {

// Where a rank's data lie in its slot, and how many ranks read them.
struct WindowPart {
  std::span<const std::byte> data;
  int64_t offset = 0;
  int readers = 0;
};

struct WindowRange {
  int64_t offset = 0, bytes = 0;
};

// All ranks walk blocks 0 ... blocks() - 1 in order. What `outgoing` puts at an offset on rank p is
// what `incoming(b, p)` says on the others; no bytes are no data. A block is read only after this
// rank laid its own of the same number.
class WindowCall {
 public:
  enum class Kind : int64_t { kGather, kScatter, kReduce, kBroadcast };

  virtual ~WindowCall() = default;
  virtual Kind kind() const = 0;  // to find ranks whose calls differ
  virtual int64_t blocks() const = 0;
  virtual void outgoing(int64_t block, std::vector<WindowPart>& parts) const = 0;  // appends
  virtual void laid(int64_t) {}  // once `outgoing` is done and the others may read it
  virtual WindowRange incoming(int64_t block, int peer) const = 0;
  // Each other rank's data of the block, one peer at a time; valid until `finish` returns.
  virtual void take(int64_t block, int peer, const std::byte* data) = 0;
  virtual void finish(int64_t) {}
};

// See Communicator::all_gather; the shards' places in `whole` lie `stride_bytes` apart. A block is
// what of the shard fills a slot.
class WindowGather final : public WindowCall {
 public:
  WindowGather(int rank, int ranks, const void* shard, void* whole, int64_t shard_bytes,
               int64_t stride_bytes, int64_t slot_bytes);
  Kind kind() const override { return Kind::kGather; }
  int64_t blocks() const override;
  void outgoing(int64_t block, std::vector<WindowPart>& parts) const override;
  void laid(int64_t block) override;
  WindowRange incoming(int64_t block, int peer) const override;
  void take(int64_t block, int peer, const std::byte* data) override;

 private:
  int rank_, ranks_;
  const std::byte* shard_;
  std::byte* whole_;
  int64_t shard_bytes_, stride_bytes_, slot_bytes_;
  void (*copy_)(void* to, const void* from, int64_t bytes);
};

// See Communicator::reduce_scatter; contributions to the ranks lie `stride_elements` apart in
// `whole`. A slot holds a part for each other rank, by rank; the owner of a shard adds the parts
// where they lie.
class WindowScatter final : public WindowCall {
 public:
  WindowScatter(int rank, int ranks, const void* whole, void* shard, int64_t shard_elements,
                int64_t stride_elements, DType dtype, int64_t slot_bytes);
  Kind kind() const override { return Kind::kScatter; }
  int64_t blocks() const override;
  void outgoing(int64_t block, std::vector<WindowPart>& parts) const override;
  WindowRange incoming(int64_t block, int peer) const override;
  void take(int64_t block, int peer, const std::byte* data) override;
  void finish(int64_t block) override;

 private:
  int64_t elements_in(int64_t block) const;
  const std::byte* contribution(int owner, int64_t block) const;
  int64_t part_offset(int from, int to) const;

  int rank_, ranks_;
  const std::byte* whole_;
  std::byte* shard_;
  int64_t shard_elements_, stride_elements_, block_elements_;
  DType dtype_;
  std::vector<const void*> terms_;  // one a rank
};

// See Communicator::all_reduce; every rank adds all of a block.
class WindowReduce final : public WindowCall {
 public:
  WindowReduce(int rank, int ranks, double* values, int64_t count, int64_t slot_bytes);
  Kind kind() const override { return Kind::kReduce; }
  int64_t blocks() const override;
  void outgoing(int64_t block, std::vector<WindowPart>& parts) const override;
  WindowRange incoming(int64_t block, int peer) const override;
  void take(int64_t block, int peer, const std::byte* data) override;
  void finish(int64_t block) override;

 private:
  int64_t count_in(int64_t block) const;

  int rank_, ranks_;
  double* values_;
  int64_t count_, block_count_;
  std::vector<const void*> terms_;  // one a rank
};

// From `root` to each other rank.
class WindowBroadcast final : public WindowCall {
 public:
  WindowBroadcast(int rank, int ranks, int root, void* data, int64_t bytes, int64_t slot_bytes);
  Kind kind() const override { return Kind::kBroadcast; }
  int64_t blocks() const override;
  void outgoing(int64_t block, std::vector<WindowPart>& parts) const override;
  WindowRange incoming(int64_t block, int peer) const override;
  void take(int64_t block, int peer, const std::byte* data) override;

 private:
  int rank_, ranks_, root_;
  std::byte* data_;
  int64_t bytes_, slot_bytes_;
};

}  // namespace memwall
