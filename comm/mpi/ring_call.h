// All-gather and reduce-scatter along a ring, and on two levels: inside a node through windows,
// between nodes along rings of the ranks at one place of their nodes (ring_order.h). A chunk is
// sent as soon as it is there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "comm/mpi/mpi_call.h"
#include "comm/mpi/ring_order.h"
#include "comm/shared/window_queue.h"
#include "runtime/base/dtype.h"

namespace memwall {

// Places of messages: receives, then sends.
constexpr int64_t kRingSends = 8;
constexpr size_t kRingPlaces = static_cast<size_t>(kRingReceives + kRingSends);

// What a ring's messages and the node's windows have done; the two calls say what they carry.
class RingCall : public MpiCall {
 public:
  bool step(MpiMessages& messages) final;
  bool is_done() const final;

 protected:
  // `local`: windows of the node's ranks; null where a node has one rank.
  RingCall(const Ring& ring, const RingOrder& order, Collective kind, WindowQueue* local);

  virtual bool work_in_node() { return false; }         // true: something moved
  virtual bool may_receive(int64_t message) const = 0;  // there is room for it
  virtual std::span<std::byte> incoming(int64_t message) = 0;
  virtual bool land(int64_t message) = 0;            // false: not yet
  virtual bool may_send(int64_t message) const = 0;  // it is here
  virtual std::span<const std::byte> outgoing(int64_t message) = 0;
  virtual bool node_is_done() const { return true; }

  // Messages are numbered as in `order_`, those sent and those received.
  const Ring ring_;
  const RingOrder order_;
  const Collective kind_;
  WindowQueue* const local_;
  int64_t posted_ = 0, landed_ = 0;   // receives
  int64_t sent_ = 0, delivered_ = 0;  // sends: given to MPI, and their buffers free again

 private:
  bool receive_all(MpiMessages& messages);
  bool send_all(MpiMessages& messages);
};

// See Communicator::all_gather.
class RingGather final : public RingCall {
 public:
  RingGather(const Ring& ring, const void* shard, void* whole, int64_t shard_bytes,
             WindowQueue* local);
  void start() override;

 private:
  bool work_in_node() override;
  bool may_receive(int64_t) const override { return true; }
  std::span<std::byte> incoming(int64_t message) override;
  bool land(int64_t) override { return true; }
  bool may_send(int64_t message) const override;
  std::span<const std::byte> outgoing(int64_t message) override;
  bool node_is_done() const override;
  std::span<std::byte> part(int64_t node, int64_t chunk) const;  // of this rank's place there

  const std::byte* shard_;
  std::byte* whole_;
  int64_t shard_bytes_;
  RingOrder shared_order_;   // chunks as they are passed on inside the node: own ones at hop 0
  int64_t shared_ = 0;       // so many of them have been
  int64_t last_shared_ = 0;  // the windows' number of the last
};

// See Communicator::reduce_scatter. A chunk of rank r's sum starts at the node behind r's and takes
// up each node's contribution as it passes, r's last. `receive` has room for kRingReceives chunks,
// and with `local` for kRingContributions more.
class RingScatter final : public RingCall {
 public:
  RingScatter(const Ring& ring, const void* whole, void* shard, int64_t shard_elements, DType dtype,
              void* receive, WindowQueue* local);
  void start() override {}

 private:
  bool work_in_node() override;
  bool may_receive(int64_t message) const override;
  std::span<std::byte> incoming(int64_t message) override;
  bool land(int64_t message) override;
  bool may_send(int64_t message) const override;
  std::span<const std::byte> outgoing(int64_t message) override;
  bool node_is_done() const override { return local_ == nullptr || added_ == own_order_.size(); }

  // The own node's contribution to a chunk, taken up when it has made `hop` hops.
  bool is_added(const RingOrder::Item& item) const;
  bool is_used(const RingOrder::Item& item) const;
  const std::byte* contribution(const RingOrder::Item& item) const;
  std::byte* contribution_room(int64_t index) const;
  const std::byte* mine(int64_t rank, int64_t chunk) const;
  bool has_left(int64_t message) const;
  std::byte* room(int64_t message) const;
  int64_t bytes_of(int64_t chunk) const { return order_.count(chunk) * size_of(dtype_); }

  const std::byte* whole_;
  std::byte* shard_;
  int64_t shard_elements_;
  DType dtype_;
  std::byte* receive_;
  int64_t chunk_bytes_;
  RingOrder own_order_;                                   // of the own node's contributions
  int64_t asked_ = 0, added_ = 0;                         // of them, in the node's windows
  std::array<int64_t, kRingContributions> in_windows_{};  // their numbers there
};

}  // namespace memwall
