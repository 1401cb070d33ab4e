#include "comm/staged/staged_communicator.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/base/math.h"

namespace memwall {
namespace {

constexpr int64_t kAlignment = 64;
constexpr auto kQueue = Device::Queue::kCommunication;

// Scratch of the host's reduce-scatter over any of its transports.
int64_t scratch_bytes(int64_t ranks, int64_t shard_elements, DType dtype) {
  return reduce_scatter_receive_bytes(ranks, shard_elements, dtype, Transport::kMpi);
}

}  // namespace

StagedCommunicator::~StagedCommunicator() {
  for (const Buffer& buffer : buffers_) device_.release_host(buffer.data);
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

// What leaves is `bytes` at `from`, to offset `at_offset` of the call's buffer. It does so at once
// unless an unfinished call is still to write there.
Ticket StagedCommunicator::start(Call call, const void* from, int64_t bytes, int64_t at_offset) {
  device_.follow(kQueue, device_.mark(Device::Queue::kCompute));
  call.source = from;
  call.source_bytes = bytes;
  call.source_at = at_offset;
  const auto* const begin = static_cast<const std::byte*>(from);
  const bool awaited = std::any_of(calls_.begin(), calls_.end(), [&](const Call& earlier) {
    const auto* const result = static_cast<const std::byte*>(earlier.result);
    return earlier.state != State::kDone && result < begin + bytes &&
           begin < result + earlier.result_bytes;
  });
  calls_.push_back(call);
  if (!awaited) leave(calls_.back());
  return first_ + static_cast<Ticket>(calls_.size()) - 1;
}

void StagedCommunicator::leave(Call& call) {
  device_.copy(kQueue, at(call, call.source_at), call.source, call.source_bytes);
  call.mark = device_.mark(kQueue);
  call.state = State::kLeaving;
}

Ticket StagedCommunicator::all_gather(const void* shard, void* whole, int64_t shard_bytes,
                                      Algorithm) {
  Call call{.kind = Collective::kAllGather};
  call.shard_bytes = shard_bytes;
  call.shard_at = rank() * shard_bytes;  // in place
  call.buffer = take_buffer(size() * shard_bytes);
  call.result = whole;
  call.result_bytes = size() * shard_bytes;
  return start(call, shard, shard_bytes, call.shard_at);
}

Ticket StagedCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                          DType dtype, void*, Algorithm) {
  const int64_t shard_bytes = shard_elements * size_of(dtype);
  Call call{.kind = Collective::kReduceScatter};
  call.dtype = dtype;
  call.shard_bytes = shard_bytes;
  call.shard_elements = shard_elements;
  call.shard_at = rank() * shard_bytes;
  call.scratch_at = round_up(size() * shard_bytes, kAlignment);
  call.buffer = take_buffer(call.scratch_at + scratch_bytes(size(), shard_elements, dtype));
  call.result = shard;
  call.result_bytes = shard_bytes;
  call.result_at = call.shard_at;
  return start(call, whole, size() * shard_bytes, 0);
}

Ticket StagedCommunicator::all_reduce(double* values, int64_t count, void*) {
  const int64_t bytes = count * size_of(DType::kF64);
  Call call{.kind = Collective::kAllReduce};
  call.shard_elements = count;
  call.scratch_at = round_up(bytes, kAlignment);
  call.buffer = take_buffer(call.scratch_at + all_reduce_receive_bytes(size(), count));
  call.result = values;
  call.result_bytes = bytes;
  return start(call, values, bytes, 0);
}

Ticket StagedCommunicator::start_on_host(Call& call) {
  std::byte* const whole = at(call, 0);
  switch (call.kind) {
    case Collective::kAllGather:
      return host_.all_gather(at(call, call.shard_at), whole, call.shard_bytes);
    case Collective::kReduceScatter:
      return host_.reduce_scatter(whole, at(call, call.shard_at), call.shard_elements, call.dtype,
                                  at(call, call.scratch_at));
    default:
      return host_.all_reduce(reinterpret_cast<double*>(whole), call.shard_elements,
                              at(call, call.scratch_at));
  }
}

// Calls move on in their order; the host's communicator completes them in that order too. Returns
// whether the call is done: its result is on its way to the device, up to `mark`.
bool StagedCommunicator::advance(Call& call, bool block) {
  if (call.state == State::kQueued) {
    if (!block) return false;
    leave(call);  // those before it are done
  }
  if (call.state == State::kLeaving) {
    if (block) device_.wait(call.mark);
    if (!block && !device_.reached(call.mark)) return false;
    call.host_ticket = start_on_host(call);
    call.state = State::kMoving;
  }
  if (call.state == State::kMoving) {
    if (!block) return false;  // only a wait says that the host's call is complete
    host_.wait(call.host_ticket);
    device_.copy(kQueue, call.result, at(call, call.result_at), call.result_bytes);
    call.mark = device_.mark(kQueue);
    call.state = State::kDone;
  }
  return true;
}

void StagedCommunicator::progress() {
  for (Call& call : calls_) {
    if (call.state == State::kQueued) break;
    if (call.state == State::kLeaving && !device_.reached(call.mark)) break;
    advance(call, false);
  }
  host_.progress();
}

void StagedCommunicator::wait(Ticket ticket) {
  const Ticket end = first_ + static_cast<Ticket>(calls_.size());
  check(ticket < end, "wait for a collective that was not issued");
  if (ticket < first_) return;
  for (Ticket t = first_; t <= ticket; ++t) {
    Call& call = calls_[static_cast<size_t>(t - first_)];
    advance(call, true);
    note_completed(t);
  }
  device_.follow(Device::Queue::kCompute, calls_[static_cast<size_t>(ticket - first_)].mark);
  // A buffer is free once its copy has arrived.
  while (first_ <= ticket) {
    device_.wait(calls_.front().mark);
    buffers_[calls_.front().buffer].taken = false;
    calls_.pop_front();
    ++first_;
  }
}

}  // namespace memwall
