#include "comm/mpi/ring_call.h"

#include <cstring>
#include <memory>

#include "comm/rank_sum.h"
#include "comm/shared/window_call.h"

namespace memwall {

namespace {

size_t receive_place(int64_t message) {
  return static_cast<size_t>(message % kRingReceives);
}
size_t send_place(int64_t message) {
  return static_cast<size_t>(kRingReceives + message % kRingSends);
}

}  // namespace

RingCall::RingCall(const Ring& ring, const RingOrder& order, Collective kind, WindowQueue* local)
    : ring_(ring), order_(order), kind_(kind), local_(local) {}

bool RingCall::is_done() const {
  return landed_ == order_.size() && delivered_ == order_.size() && node_is_done();
}

bool RingCall::step(MpiMessages& messages) {
  bool moved = messages.collect();
  if (local_ != nullptr) {
    moved = local_->step() || moved;
    moved = work_in_node() || moved;
  }
  moved = receive_all(messages) || moved;
  return send_all(messages) || moved;
}

// In order, so that what is posted is what the neighbour sends, and sums are made as chunks come.
bool RingCall::receive_all(MpiMessages& messages) {
  bool moved = false;
  while (landed_ < posted_ && messages.is_free(receive_place(landed_)) && land(landed_)) {
    ++landed_;
    moved = true;
  }
  while (posted_ < order_.size() && posted_ < landed_ + kRingReceives && may_receive(posted_)) {
    messages.receive(ring_.previous(), incoming(posted_), receive_place(posted_));
    ++posted_;
    moved = true;
  }
  return moved;
}

bool RingCall::send_all(MpiMessages& messages) {
  bool moved = false;
  while (delivered_ < sent_ && messages.is_free(send_place(delivered_))) {
    ++delivered_;
    moved = true;
  }
  while (sent_ < order_.size() && sent_ < delivered_ + kRingSends && may_send(sent_)) {
    messages.send(kind_, ring_.next(), outgoing(sent_), send_place(sent_));
    ++sent_;
    moved = true;
  }
  return moved;
}

RingGather::RingGather(const Ring& ring, const void* shard, void* whole, int64_t shard_bytes,
                       WindowQueue* local)
    : RingCall(ring, {shard_bytes, ring_chunk(shard_bytes, 1), ring.nodes() - 1},
               Collective::kAllGather, local),
      shard_(static_cast<const std::byte*>(shard)),
      whole_(static_cast<std::byte*>(whole)),
      shard_bytes_(shard_bytes),
      shared_order_(shard_bytes, ring_chunk(shard_bytes, 1), ring.nodes()) {}

void RingGather::start() {
  std::byte* const own = whole_ + ring_.rank_on(ring_.node()) * shard_bytes_;
  if (own != shard_ && shard_bytes_ > 0) {
    std::memcpy(own, shard_, static_cast<size_t>(shard_bytes_));
  }
}

std::span<std::byte> RingGather::part(int64_t node, int64_t chunk) const {
  return {whole_ + ring_.rank_on(node) * shard_bytes_ + order_.begin(chunk),
          static_cast<size_t>(order_.count(chunk))};
}

std::span<std::byte> RingGather::incoming(int64_t message) {
  const RingOrder::Item item = order_.at(message);
  return part(ring_.node_before(1 + item.hop), item.chunk);
}

bool RingGather::may_send(int64_t message) const {
  const RingOrder::Item item = order_.at(message);
  return item.hop == 0 || landed_ > order_.index_of({item.chunk, item.hop - 1});
}

std::span<const std::byte> RingGather::outgoing(int64_t message) {
  const RingOrder::Item item = order_.at(message);
  return part(ring_.node_before(item.hop), item.chunk);
}

// Each node's chunks become the whole node's as they come: all its ranks pass them on in one order.
bool RingGather::work_in_node() {
  bool moved = false;
  for (; shared_ < shared_order_.size(); ++shared_) {
    const RingOrder::Item item = shared_order_.at(shared_);
    if (item.hop > 0 && landed_ <= order_.index_of({item.chunk, item.hop - 1})) break;
    const int64_t node = ring_.node_before(item.hop);
    const std::span<std::byte> mine = part(node, item.chunk);
    const auto bytes = static_cast<int64_t>(mine.size());
    std::byte* const first = mine.data() - ring_.place() * shard_bytes_;
    last_shared_ = local_->push(
        kind_, bytes,
        std::make_unique<WindowGather>(local_->rank(), local_->size(), mine.data(), first, bytes,
                                       shard_bytes_, local_->slot_bytes()));
    moved = true;
  }
  return moved;
}

bool RingGather::node_is_done() const {
  return local_ == nullptr ||
         (shared_ == shared_order_.size() && local_->completed() >= last_shared_);
}

RingScatter::RingScatter(const Ring& ring, const void* whole, void* shard, int64_t shard_elements,
                         DType dtype, void* receive, WindowQueue* local)
    : RingCall(ring, {shard_elements, ring_chunk(shard_elements, size_of(dtype)), ring.nodes() - 1},
               Collective::kReduceScatter, local),
      whole_(static_cast<const std::byte*>(whole)),
      shard_(static_cast<std::byte*>(shard)),
      shard_elements_(shard_elements),
      dtype_(dtype),
      receive_(static_cast<std::byte*>(receive)),
      chunk_bytes_(ring_chunk(shard_elements, size_of(dtype)) * size_of(dtype)),
      own_order_(shard_elements, ring_chunk(shard_elements, size_of(dtype)), ring.nodes()) {}

std::byte* RingScatter::room(int64_t message) const {
  return receive_ + message % kRingReceives * chunk_bytes_;
}

std::byte* RingScatter::contribution_room(int64_t index) const {
  return receive_ + (kRingReceives + index % kRingContributions) * chunk_bytes_;
}

const std::byte* RingScatter::mine(int64_t rank, int64_t chunk) const {
  return whole_ + (rank * shard_elements_ + order_.begin(chunk)) * size_of(dtype_);
}

bool RingScatter::is_added(const RingOrder::Item& item) const {
  return local_ == nullptr || added_ > own_order_.index_of(item);
}

const std::byte* RingScatter::contribution(const RingOrder::Item& item) const {
  if (local_ != nullptr) return contribution_room(own_order_.index_of(item));
  return mine(ring_.rank_on(ring_.node_before(1 + item.hop)), item.chunk);
}

// Whether the room of a contribution may be overwritten: what started with it has been sent, what
// it was added to lies elsewhere.
bool RingScatter::is_used(const RingOrder::Item& item) const {
  if (item.hop == 0) return ring_.nodes() == 1 || delivered_ > order_.index_of({item.chunk, 0});
  return landed_ > order_.index_of({item.chunk, item.hop - 1});
}

bool RingScatter::work_in_node() {
  bool moved = false;
  while (added_ < asked_ &&
         local_->completed() >= in_windows_[static_cast<size_t>(added_ % kRingContributions)]) {
    ++added_;
    moved = true;
  }
  for (; asked_ < own_order_.size() && asked_ < added_ + kRingContributions; ++asked_) {
    if (asked_ >= kRingContributions && !is_used(own_order_.at(asked_ - kRingContributions))) break;
    const RingOrder::Item item = own_order_.at(asked_);
    const int64_t node = ring_.node_before(1 + item.hop);
    // Alone on its node's level, the sum is the result.
    std::byte* const out = ring_.nodes() == 1 ? shard_ + order_.begin(item.chunk) * size_of(dtype_)
                                              : contribution_room(asked_);
    in_windows_[static_cast<size_t>(asked_ % kRingContributions)] = local_->push(
        kind_, bytes_of(item.chunk),
        std::make_unique<WindowScatter>(
            local_->rank(), local_->size(), mine(node * ring_.places(), item.chunk), out,
            order_.count(item.chunk), shard_elements_, dtype_, local_->slot_bytes()));
    moved = true;
  }
  return moved;
}

// Whether what was received into a message's room is no longer there: its sum was the last, or sent
// on.
bool RingScatter::has_left(int64_t message) const {
  if (landed_ <= message) return false;
  const RingOrder::Item item = order_.at(message);
  return item.hop + 2 == ring_.nodes() || delivered_ > order_.index_of({item.chunk, item.hop + 1});
}

bool RingScatter::may_receive(int64_t message) const {
  return message < kRingReceives || has_left(message - kRingReceives);
}

std::span<std::byte> RingScatter::incoming(int64_t message) {
  return {room(message), static_cast<size_t>(bytes_of(order_.at(message).chunk))};
}

bool RingScatter::land(int64_t message) {
  const auto [chunk, hop] = order_.at(message);
  const RingOrder::Item added{chunk, hop + 1};
  if (!is_added(added)) return false;
  const bool is_last = hop + 2 == ring_.nodes();
  const std::array<const void*, 2> terms = {room(message), contribution(added)};
  std::byte* const out = is_last ? shard_ + order_.begin(chunk) * size_of(dtype_) : room(message);
  sum_in_order(terms, out, order_.count(chunk), dtype_);
  return true;
}

bool RingScatter::may_send(int64_t message) const {
  const RingOrder::Item item = order_.at(message);
  if (item.hop == 0) return is_added(item);
  return landed_ > order_.index_of({item.chunk, item.hop - 1});
}

std::span<const std::byte> RingScatter::outgoing(int64_t message) {
  const RingOrder::Item item = order_.at(message);
  const std::byte* const data =
      item.hop == 0 ? contribution(item) : room(order_.index_of({item.chunk, item.hop - 1}));
  return {data, static_cast<size_t>(bytes_of(item.chunk))};
}

}  // namespace memwall
