#include "comm/staged/staged_communicator.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/base/math.h"

namespace memwall {
namespace {

constexpr auto kLeaves = Device::Queue::kCommunication;
constexpr auto kArrives = Device::Queue::kCopy;

struct Extent {
  const std::byte* begin;
  int64_t bytes;
};

bool overlap(const Extent& a, const Extent& b) {
  return a.begin < b.begin + b.bytes && b.begin < a.begin + a.bytes;
}

}  // namespace

StagedCommunicator::~StagedCommunicator() {
  // After an error the host's communicator may still write to what it was given.
  std::vector<bool> lent(buffers_.size(), false);
  for (const Chunk& chunk : chunks_) {
    if (chunk.state == State::kMoving) lent[chunk.buffer] = true;
  }
  for (size_t b = 0; b < buffers_.size(); ++b) {
    if (!lent[b]) device_.release_host(buffers_[b].data);
  }
}

// The smallest free one that is large enough.
size_t StagedCommunicator::take_buffer(int64_t bytes) {
  auto best = buffers_.end();
  for (auto b = buffers_.begin(); b != buffers_.end(); ++b) {
    if (b->taken || b->bytes < bytes) continue;
    if (best == buffers_.end() || b->bytes < best->bytes) best = b;
  }
  if (best == buffers_.end()) {
    best = buffers_.insert(best, {device_.allocate_host(bytes), bytes, false});
    pinned_bytes_ += bytes;
  }
  best->taken = true;
  return static_cast<size_t>(best - buffers_.begin());
}

int64_t StagedCommunicator::parts(const Chunk& chunk) const {
  return chunk.kind == Collective::kAllReduce ? 1 : size();
}

// Of the host's communicator, over whichever transport needs most.
int64_t StagedCommunicator::scratch_bytes(const Chunk& chunk) const {
  const int64_t elements = chunk.bytes / size_of(chunk.dtype);
  if (chunk.kind == Collective::kReduceScatter) {
    return reduce_scatter_receive_bytes(size(), elements, chunk.dtype);
  }
  return chunk.kind == Collective::kAllReduce ? all_reduce_receive_bytes(size(), elements) : 0;
}

// `call` is the whole collective as one chunk.
Ticket StagedCommunicator::add(const Chunk& call) {
  device_.follow(kLeaves, device_.mark(Device::Queue::kCompute));
  device_.follow(kArrives, device_.mark(Device::Queue::kCompute));
  const int64_t step = kSlotAlignment * size_of(call.dtype);
  const int64_t most = call.kind == Collective::kAllReduce
                           ? call.bytes
                           : std::max(step, chunk_bytes_ / size() / step * step);
  for (int64_t at = 0; at < call.bytes; at += most) {
    Chunk chunk = call;
    chunk.at = at;
    chunk.bytes = std::min(most, call.bytes - at);
    chunks_.push_back(chunk);
  }
  Traffic& traffic = ledger_[call.kind];
  ++traffic.calls;
  traffic.payload_bytes += parts(call) * call.bytes;
  pump();
  return first_ + static_cast<Ticket>(chunks_.size()) - 1;
}

Ticket StagedCommunicator::all_gather(const void* shard, void* whole, int64_t shard_bytes,
                                      Algorithm) {
  Chunk call;
  call.kind = Collective::kAllGather;
  call.dtype = DType::kF16;  // any: bytes are moved, an even number of them
  call.whole = static_cast<std::byte*>(whole);
  call.shard = static_cast<std::byte*>(const_cast<void*>(shard));
  call.part_bytes = call.bytes = shard_bytes;
  return add(call);
}

Ticket StagedCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                          DType dtype, void*, Algorithm) {
  Chunk call;
  call.kind = Collective::kReduceScatter;
  call.dtype = dtype;
  call.whole = static_cast<std::byte*>(const_cast<void*>(whole));
  call.shard = static_cast<std::byte*>(shard);
  call.part_bytes = call.bytes = shard_elements * size_of(dtype);
  return add(call);
}

Ticket StagedCommunicator::all_reduce(double* values, int64_t count, void*) {
  Chunk call;
  call.kind = Collective::kAllReduce;
  call.dtype = DType::kF64;
  call.whole = call.shard = reinterpret_cast<std::byte*>(values);
  call.bytes = count * size_of(DType::kF64);
  return add(call);
}

// Whether what is to leave is a result that has yet to arrive, of a call before it.
bool StagedCommunicator::awaits_another(size_t chunk) const {
  const auto whole = [&](const Chunk& c) {
    return Extent{c.whole, std::max<int64_t>(c.part_bytes * size(), c.bytes)};
  };
  const auto shard = [](const Chunk& c) {
    return Extent{c.shard, std::max(c.part_bytes, c.bytes)};
  };
  const Chunk& later = chunks_[chunk];
  const Extent source = later.kind == Collective::kAllGather ? shard(later) : whole(later);
  for (size_t i = 0; i < chunk; ++i) {
    const Chunk& earlier = chunks_[i];
    if (earlier.state == State::kArriving) continue;
    const bool same_call =
        earlier.kind == later.kind && earlier.whole == later.whole && earlier.shard == later.shard;
    if (same_call) continue;
    const Extent result = earlier.kind == Collective::kAllGather ? whole(earlier) : shard(earlier);
    if (overlap(source, result)) return true;
  }
  return false;
}

void StagedCommunicator::leave(Chunk& chunk) {
  chunk.buffer =
      take_buffer(round_up(parts(chunk) * chunk.bytes, int64_t{64}) + scratch_bytes(chunk));
  // What arrived before may be what leaves now.
  device_.follow(kLeaves, device_.mark(kArrives));
  switch (chunk.kind) {
    case Collective::kAllGather:
      device_.copy(kLeaves, in_buffer(chunk, rank()), chunk.shard + chunk.at, chunk.bytes);
      break;
    case Collective::kReduceScatter:
      for (int r = 0; r < size(); ++r) {
        device_.copy(kLeaves, in_buffer(chunk, r), chunk.whole + r * chunk.part_bytes + chunk.at,
                     chunk.bytes);
      }
      break;
    default: device_.copy(kLeaves, in_buffer(chunk, 0), chunk.whole, chunk.bytes);
  }
  chunk.mark = device_.mark(kLeaves);
  chunk.state = State::kLeaving;
}

// Hands it to the host's communicator.
void StagedCommunicator::move(Chunk& chunk) {
  std::byte* const whole = in_buffer(chunk, 0);
  std::byte* const scratch =
      buffers_[chunk.buffer].data + round_up(parts(chunk) * chunk.bytes, int64_t{64});
  const int64_t elements = chunk.bytes / size_of(chunk.dtype);
  switch (chunk.kind) {
    case Collective::kAllGather:
      chunk.host_ticket = host_.all_gather(in_buffer(chunk, rank()), whole, chunk.bytes);
      break;
    case Collective::kReduceScatter:
      chunk.host_ticket =
          host_.reduce_scatter(whole, in_buffer(chunk, rank()), elements, chunk.dtype, scratch);
      break;
    default:
      chunk.host_ticket = host_.all_reduce(reinterpret_cast<double*>(whole), elements, scratch);
  }
  chunk.state = State::kMoving;
}

void StagedCommunicator::arrive(Chunk& chunk) {
  switch (chunk.kind) {
    case Collective::kAllGather:
      for (int r = 0; r < size(); ++r) {
        device_.copy(kArrives, chunk.whole + r * chunk.part_bytes + chunk.at, in_buffer(chunk, r),
                     chunk.bytes);
      }
      break;
    case Collective::kReduceScatter:
      device_.copy(kArrives, chunk.shard + chunk.at, in_buffer(chunk, rank()), chunk.bytes);
      break;
    default: device_.copy(kArrives, chunk.whole, in_buffer(chunk, 0), chunk.bytes);
  }
  chunk.mark = device_.mark(kArrives);
  chunk.state = State::kArriving;
}

// Moves on what can without blocking. Chunks leave, move and arrive in their order: the host's
// communicator completes them so, and its completions are only known by waiting for them.
void StagedCommunicator::pump() {
  while (!chunks_.empty() && chunks_.front().state == State::kArriving &&
         device_.reached(chunks_.front().mark)) {
    buffers_[chunks_.front().buffer].taken = false;
    chunks_.pop_front();
    ++first_;
  }
  const size_t under_way = std::min(chunks_.size(), kMostUnderWay);
  for (size_t i = 0; i < under_way; ++i) {
    Chunk& chunk = chunks_[i];
    if (chunk.state != State::kQueued) continue;
    if (awaits_another(i)) break;
    leave(chunk);
  }
  for (Chunk& chunk : chunks_) {
    if (chunk.state == State::kQueued) break;
    if (chunk.state != State::kLeaving) continue;
    if (!device_.reached(chunk.mark)) break;
    move(chunk);
  }
}

const Ledger& StagedCommunicator::ledger() const {
  for (size_t c = 0; c < ledger_.traffic.size(); ++c) {
    ledger_.traffic[c].wire_bytes = host_.ledger().traffic[c].wire_bytes;
  }
  return ledger_;
}

void StagedCommunicator::progress() {
  pump();
  host_.progress();
}

// Until the chunk is on its way back to the device. Those before it are.
void StagedCommunicator::finish(size_t chunk) {
  if (chunks_[chunk].state == State::kQueued) leave(chunks_[chunk]);
  if (chunks_[chunk].state == State::kLeaving) {
    device_.wait(chunks_[chunk].mark);
    move(chunks_[chunk]);
  }
  if (chunks_[chunk].state == State::kMoving) {
    host_.wait(chunks_[chunk].host_ticket);
    arrive(chunks_[chunk]);
  }
}

void StagedCommunicator::wait(Ticket ticket) {
  check(ticket < first_ + static_cast<Ticket>(chunks_.size()),
        "wait for a collective that was not issued");
  while (first_ <= ticket) {
    const auto unfinished = std::find_if(
        chunks_.begin(), chunks_.end(), [](const Chunk& c) { return c.state != State::kArriving; });
    const auto index = static_cast<size_t>(unfinished - chunks_.begin());
    if (first_ + static_cast<Ticket>(index) > ticket) break;
    if (index >= kMostUnderWay) {  // all under way are arriving: their memory is needed
      device_.wait(chunks_.front().mark);
      pump();
      continue;
    }
    finish(index);
    note_completed(first_ + static_cast<Ticket>(index));
    pump();
  }
  device_.follow(Device::Queue::kCompute, device_.mark(kArrives));
}

}  // namespace memwall
