#include "comm/shared/shared_communicator.h"

#include <thread>
#include <utility>

namespace memwall {

namespace {

// Polls before a rank yields: a flag of a rank that runs takes less than a microsecond to come, and
// one of a rank without a core never comes before the yield.
constexpr int kPolls = 50;

}  // namespace

SharedCommunicator::SharedCommunicator(const MpiSession& session, const SharedOptions& options)
    : rank_(session.rank()),
      size_(session.size()),
      status_(session.rank(), session.size(), session.host()),
      termination_report_(status_),
      watchdog_(status_, options.timeout_seconds) {
  const WaitScope scope(status_);
  windows_.emplace(all_ranks(session), options.windows, ledger_, status_);
}

Ticket SharedCommunicator::enqueue(Collective kind, int64_t bytes, int64_t payload_bytes,
                                   std::unique_ptr<WindowCall> data) {
  ++ledger_[kind].calls;
  ledger_[kind].payload_bytes += payload_bytes;
  const Ticket ticket = windows_->push(kind, bytes, std::move(data));
  progress();
  return ticket;
}

Ticket SharedCommunicator::all_gather(const void* shard, void* whole, int64_t shard_bytes,
                                      Algorithm) {
  return enqueue(Collective::kAllGather, shard_bytes, size_ * shard_bytes,
                 std::make_unique<WindowGather>(rank_, size_, shard, whole, shard_bytes,
                                                shard_bytes, windows_->slot_bytes()));
}

Ticket SharedCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                          DType dtype, void*, Algorithm) {
  const int64_t shard_bytes = shard_elements * size_of(dtype);
  return enqueue(Collective::kReduceScatter, shard_bytes, size_ * shard_bytes,
                 std::make_unique<WindowScatter>(rank_, size_, whole, shard, shard_elements,
                                                 shard_elements, dtype, windows_->slot_bytes()));
}

Ticket SharedCommunicator::all_reduce(double* values, int64_t count, void*) {
  const int64_t bytes = count * size_of(DType::kF64);
  return enqueue(
      Collective::kAllReduce, bytes, bytes,
      std::make_unique<WindowReduce>(rank_, size_, values, count, windows_->slot_bytes()));
}

bool SharedCommunicator::step() {
  const int64_t completed = windows_->completed();
  const bool moved = windows_->step();
  if (windows_->completed() != completed) note_completed(windows_->completed());
  return moved;
}

void SharedCommunicator::progress() {
  while (step()) {
  }
}

void SharedCommunicator::wait(Ticket ticket) {
  check(ticket <= windows_->pushed(), "wait for a collective that was not issued");
  if (ticket <= windows_->completed()) return;
  const WaitScope scope(status_);
  int polls = 0;
  while (windows_->completed() < ticket) {
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
      Collective::kOther, bytes, bytes,
      std::make_unique<WindowBroadcast>(rank_, size_, root, data, bytes, windows_->slot_bytes())));
}

void SharedCommunicator::gather_bytes(const void* shard, void* whole, int64_t shard_bytes) {
  wait(enqueue(Collective::kOther, shard_bytes, size_ * shard_bytes,
               std::make_unique<WindowGather>(rank_, size_, shard, whole, shard_bytes, shard_bytes,
                                              windows_->slot_bytes())));
}

}  // namespace memwall
