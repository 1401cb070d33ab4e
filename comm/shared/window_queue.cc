#include "comm/shared/window_queue.h"

#include <string>
#include <utility>

#include "comm/shared/window_access.h"
#include "runtime/base/error.h"

namespace memwall {

WindowQueue::WindowQueue(const RankGroup& group, const WindowOptions& options, Ledger& ledger,
                         WaitStatus& status)
    : group_(group),
      ledger_(ledger),
      status_(status),
      windows_(group, options.window_bytes, options.space),
      missing_(static_cast<size_t>(group.size)) {
  check(group.size > 1, "shared windows of one rank");
  check(windows_.slot_bytes() >= (group.size - 1) * kSlotAlignment * size_of(DType::kF64),
        "windows with room for every rank", group.session->where());
}

int64_t WindowQueue::push(Collective kind, int64_t bytes, std::unique_ptr<WindowCall> data) {
  queue_.push_back(
      {kind, {.kind = static_cast<int64_t>(data->kind()), .bytes = bytes}, std::move(data)});
  return ++pushed_;
}

bool WindowQueue::step() {
  if (queue_.empty()) return false;
  const bool moved = advance();
  if (moved) status_.moved();
  if (!moved || any_missing_) note_missing();
  return moved;
}

bool WindowQueue::advance() {
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
bool WindowQueue::put_block(const Call& call) {
  if (put_ == end_) return false;
  for (int peer = 0; peer < group_.size; ++peer) {
    if (peer != group_.rank && !windows_.is_taken(peer, put_ - SharedWindows::kSlots)) return false;
  }
  parts_.clear();
  call.data->outgoing(put_ - first_, parts_);
  for (const WindowPart& part : parts_) write(call.kind, part);
  windows_.publish(put_, label_of(call, put_ - first_));
  call.data->laid(put_ - first_);
  ++put_;
  return true;
}

// The one place where bytes leave this rank.
void WindowQueue::write(Collective kind, const WindowPart& part) {
  const auto bytes = static_cast<int64_t>(part.data.size());
  memwall_window_write(windows_.slot(group_.rank, put_) + part.offset, part.data.data(), bytes,
                       part.readers);
  ledger_[kind].wire_bytes += bytes * part.readers;
}

// Reads the next block in all windows, once all ranks have laid it; each rank begins with the next
// one's, so that not all read the same window.
bool WindowQueue::take_block(const Call& call) {
  if (taken_ == put_) return false;
  for (int peer = 0; peer < group_.size; ++peer) {
    if (!windows_.is_published(peer, taken_)) return false;
  }
  const int64_t block = taken_ - first_;
  const SlotLabel due = label_of(call, block);
  for (int distance = 1; distance < group_.size; ++distance) {
    const int peer = (group_.rank + distance) % group_.size;
    check_label(peer, due);
    const WindowRange range = call.data->incoming(block, peer);
    if (range.bytes == 0) continue;
    const std::byte* const at = windows_.slot(peer, taken_) + range.offset;
    call.data->take(block, peer, memwall_window_read(at, range.bytes, peer));
  }
  call.data->finish(block);
  windows_.mark_taken(taken_++);
  return true;
}

SlotLabel WindowQueue::label_of(const Call& call, int64_t block) const {
  SlotLabel label = call.label;
  label.call = completed_ + 1;
  label.block = block;
  return label;
}

void WindowQueue::check_label(int peer, const SlotLabel& due) const {
  const SlotLabel& found = windows_.label(peer, taken_);
  if (found == due) return;
  const auto text = [](const SlotLabel& label) {
    return "block " + std::to_string(label.block) + " of call " + std::to_string(label.call) +
           " (kind " + std::to_string(label.kind) + ", " + std::to_string(label.bytes) + " bytes)";
  };
  throw InternalError("rank " + std::to_string(peer) + " is at " + text(found) + " where " +
                          text(due) + " was due: the ranks' collectives differ",
                      group_.session->where());
}

// Whether the front call waits for `peer`: to lay its block, or to have read this rank's.
bool WindowQueue::due(int peer) const {
  if (peer == group_.rank) return false;
  if (taken_ < put_ && !windows_.is_published(peer, taken_)) return true;
  return put_ < end_ && !windows_.is_taken(peer, put_ - SharedWindows::kSlots);
}

// Tells the watchdog which peers this rank waits for.
void WindowQueue::note_missing() {
  any_missing_ = false;
  for (int peer = 0; peer < group_.size; ++peer) {
    const auto index = static_cast<size_t>(peer);
    const bool is_due = due(peer);
    any_missing_ = any_missing_ || is_due;
    if (is_due == missing_[index]) continue;
    missing_[index] = is_due;
    if (is_due) {
      status_.expect(group_.first + peer);
    } else {
      status_.answered(group_.first + peer);
    }
  }
}

}  // namespace memwall
