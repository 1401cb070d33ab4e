#include "comm/shared/shared_communicator.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "comm/shared/window_access.h"

namespace memwall {

namespace {

// Polls before a rank yields: a flag of a rank that runs takes less than a microsecond to come, and
// one of a rank without a core never comes before the yield.
constexpr int kPolls = 50;

// What tells calls apart that the ledger counts as one kind.
enum Kind : int64_t { kGather, kScatter, kReduce, kBroadcast };

}  // namespace

SharedCommunicator::SharedCommunicator(const MpiSession& session, const SharedOptions& options)
    : session_(session),
      rank_(session.rank()),
      size_(session.size()),
      status_(session.rank(), session.size(), session.host()),
      missing_(static_cast<size_t>(session.size())),
      termination_report_(status_),
      watchdog_(status_, options.timeout_seconds) {
  check(size_ > 1, "shared windows of one rank");
  const WaitScope scope(status_);
  windows_ = std::make_unique<SharedWindows>(session_, options.window_bytes, options.space);
  check(windows_->slot_bytes() >= (size_ - 1) * kSlotAlignment * size_of(DType::kF64),
        "windows with room for every rank", session_.where());
}

Ticket SharedCommunicator::enqueue(Call call, int64_t payload_bytes) {
  ++ledger_[call.kind].calls;
  ledger_[call.kind].payload_bytes += payload_bytes;
  queue_.push_back(std::move(call));
  ++issued_;
  progress();
  return issued_;
}

Ticket SharedCommunicator::all_gather(const void* shard, void* whole, int64_t shard_bytes) {
  return enqueue({Collective::kAllGather,
                  {.kind = kGather, .bytes = shard_bytes},
                  std::make_unique<WindowGather>(rank_, size_, shard, whole, shard_bytes,
                                                 windows_->slot_bytes())},
                 size_ * shard_bytes);
}

Ticket SharedCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                          DType dtype, void*) {
  const int64_t shard_bytes = shard_elements * size_of(dtype);
  return enqueue({Collective::kReduceScatter,
                  {.kind = kScatter, .bytes = shard_bytes},
                  std::make_unique<WindowScatter>(rank_, size_, whole, shard, shard_elements, dtype,
                                                  windows_->slot_bytes())},
                 size_ * shard_bytes);
}

Ticket SharedCommunicator::all_reduce(double* values, int64_t count, void*) {
  const int64_t bytes = count * size_of(DType::kF64);
  return enqueue(
      {Collective::kAllReduce,
       {.kind = kReduce, .bytes = bytes},
       std::make_unique<WindowReduce>(rank_, size_, values, count, windows_->slot_bytes())},
      bytes);
}

void SharedCommunicator::progress() {
  while (step()) {
  }
}

void SharedCommunicator::wait(Ticket ticket) {
  check(ticket <= issued_, "wait for a collective that was not issued");
  if (ticket <= completed_) return;
  const WaitScope scope(status_);
  int polls = 0;
  while (completed_ < ticket) {
    if (step()) {
      polls = 0;
    } else if (++polls > kPolls) {
      std::this_thread::yield();
    }
  }
}

void SharedCommunicator::broadcast(void* data, int64_t bytes, int root) {
  check(root >= 0 && root < size_, "broadcast from a rank that does not exist");
  wait(enqueue(
      {Collective::kOther,
       {.kind = kBroadcast, .bytes = bytes},
       std::make_unique<WindowBroadcast>(rank_, size_, root, data, bytes, windows_->slot_bytes())},
      bytes));
}

void SharedCommunicator::gather_bytes(const void* shard, void* whole, int64_t shard_bytes) {
  wait(enqueue({Collective::kOther,
                {.kind = kGather, .bytes = shard_bytes},
                std::make_unique<WindowGather>(rank_, size_, shard, whole, shard_bytes,
                                               windows_->slot_bytes())},
               size_ * shard_bytes));
}

// Moves the front call by what can be done without blocking. False: nothing moved.
bool SharedCommunicator::step() {
  if (queue_.empty()) return false;
  const bool moved = advance();
  if (moved) status_.moved();
  if (!moved || any_missing_) note_missing();
  return moved;
}

bool SharedCommunicator::advance() {
  const Call& call = queue_.front();
  if (!started_) {
    started_ = true;
    first_ = taken_;
    end_ = first_ + call.data->blocks();
  }
  if (taken_ == end_) {
    queue_.pop_front();
    ++completed_;
    started_ = false;
    return true;
  }
  return put_block(call) || take_block(call);
}

// Lays this rank's next block where its slot is free.
bool SharedCommunicator::put_block(const Call& call) {
  if (put_ == end_) return false;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_ && !windows_->is_taken(peer, put_ - SharedWindows::kSlots)) return false;
  }
  parts_.clear();
  call.data->outgoing(put_ - first_, parts_);
  for (const WindowPart& part : parts_) write(call.kind, part);
  windows_->publish(put_, label_of(call, put_ - first_));
  call.data->laid(put_ - first_);
  ++put_;
  return true;
}

// The one place where bytes leave this rank.
void SharedCommunicator::write(Collective kind, const WindowPart& part) {
  const auto bytes = static_cast<int64_t>(part.data.size());
  memwall_window_write(windows_->slot(rank_, put_) + part.offset, part.data.data(), bytes,
                       part.readers);
  ledger_[kind].wire_bytes += bytes * part.readers;
}

// Reads the next block in all windows, once all ranks have laid it; each rank begins with the next
// one's, so that not all read the same window.
bool SharedCommunicator::take_block(const Call& call) {
  if (taken_ == put_) return false;
  for (int peer = 0; peer < size_; ++peer) {
    if (!windows_->is_published(peer, taken_)) return false;
  }
  const int64_t block = taken_ - first_;
  const SlotLabel due = label_of(call, block);
  for (int distance = 1; distance < size_; ++distance) {
    const int peer = (rank_ + distance) % size_;
    check_label(peer, due);
    const WindowRange range = call.data->incoming(block, peer);
    if (range.bytes == 0) continue;
    const std::byte* const at = windows_->slot(peer, taken_) + range.offset;
    call.data->take(block, peer, memwall_window_read(at, range.bytes, peer));
  }
  call.data->finish(block);
  windows_->mark_taken(taken_++);
  return true;
}

SlotLabel SharedCommunicator::label_of(const Call& call, int64_t block) const {
  SlotLabel label = call.label;
  label.call = completed_ + 1;
  label.block = block;
  return label;
}

void SharedCommunicator::check_label(int peer, const SlotLabel& due) const {
  const SlotLabel& found = windows_->label(peer, taken_);
  if (found == due) return;
  const auto text = [](const SlotLabel& label) {
    return "block " + std::to_string(label.block) + " of call " + std::to_string(label.call) +
           " (kind " + std::to_string(label.kind) + ", " + std::to_string(label.bytes) + " bytes)";
  };
  throw InternalError("rank " + std::to_string(peer) + " is at " + text(found) + " where " +
                          text(due) + " was due: the ranks' collectives differ",
                      session_.where());
}

// Whether the front call waits for `peer`: to lay its block, or to have read this rank's.
bool SharedCommunicator::due(int peer) const {
  if (peer == rank_) return false;
  if (taken_ < put_ && !windows_->is_published(peer, taken_)) return true;
  return put_ < end_ && !windows_->is_taken(peer, put_ - SharedWindows::kSlots);
}

// Tells the watchdog which peers this rank waits for.
void SharedCommunicator::note_missing() {
  any_missing_ = false;
  for (int peer = 0; peer < size_; ++peer) {
    const auto index = static_cast<size_t>(peer);
    const bool is_due = due(peer);
    any_missing_ = any_missing_ || is_due;
    if (is_due == missing_[index]) continue;
    missing_[index] = is_due;
    if (is_due) {
      status_.expect(peer);
    } else {
      status_.answered(peer);
    }
  }
}

}  // namespace memwall
