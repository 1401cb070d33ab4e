#include "comm/mpi/mpi_communicator.h"

#include <algorithm>
#include <exception>
#include <string>
#include <thread>
#include <utility>

namespace memwall {

namespace {

constexpr int kTag = 1;  // the communicator is ours alone, and its messages match in order

}  // namespace

MpiCommunicator::MpiCommunicator(const MpiSession& session, const MpiOptions& options)
    : session_(session),
      rank_(session.rank()),
      size_(session.size()),
      max_message_bytes_(options.max_message_bytes),
      exceptions_at_start_(std::uncaught_exceptions()),
      status_(session.rank(), session.size(), session.host()),
      termination_report_(status_),
      watchdog_(status_, options.timeout_seconds) {
  check(max_message_bytes_ >= 8 && max_message_bytes_ % 8 == 0 && options.exchanges_in_flight >= 1,
        "messages of whole doubles, at least one exchange in flight");
  const int slots = std::max(1, std::min(options.exchanges_in_flight, size_ - 1));
  const auto requests = static_cast<size_t>(2 * slots);
  requests_.assign(requests, MPI_REQUEST_NULL);
  messages_.resize(requests);
  finished_.resize(requests);
  statuses_.resize(requests);
  session_.check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  session_.check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

// As with the session: an exception on its way out may be this rank's alone.
MpiCommunicator::~MpiCommunicator() {
  if (std::uncaught_exceptions() == exceptions_at_start_) MPI_Comm_free(&comm_);
}

Ticket MpiCommunicator::enqueue(Collective kind, int64_t payload_bytes,
                                std::unique_ptr<Exchange> exchange) {
  ++ledger_[kind].calls;
  ledger_[kind].payload_bytes += payload_bytes;
  queue_.push_back({kind, std::move(exchange)});
  ++issued_;
  progress();
  return issued_;
}

Ticket MpiCommunicator::all_gather(const void* shard, void* whole, int64_t shard_bytes) {
  return enqueue(Collective::kAllGather, size_ * shard_bytes,
                 std::make_unique<AllGather>(rank_, shard, whole, shard_bytes, max_message_bytes_));
}

Ticket MpiCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                       DType dtype, void* receive) {
  return enqueue(
      Collective::kReduceScatter, size_ * shard_elements * size_of(dtype),
      std::make_unique<ReduceScatter>(rank_, size_, whole, shard, shard_elements, dtype, receive));
}

Ticket MpiCommunicator::all_reduce(double* values, int64_t count, void* receive) {
  return enqueue(
      Collective::kAllReduce, count * size_of(DType::kF64),
      std::make_unique<AllReduce>(rank_, size_, values, count, receive, max_message_bytes_));
}

void MpiCommunicator::progress() {
  while (step()) {
  }
}

// Polls instead of MPI_Waitall, so that the watchdog sees which peers have answered; yields, so
// that more ranks than cores get on.
void MpiCommunicator::wait(Ticket ticket) {
  check(ticket <= issued_, "wait for a collective that was not issued");
  if (ticket <= completed_) return;
  const WaitScope scope(status_);
  while (completed_ < ticket) {
    if (!step()) std::this_thread::yield();
  }
}

void MpiCommunicator::broadcast(void* data, int64_t bytes, int root) {
  check(root >= 0 && root < size_, "broadcast from a rank that does not exist");
  wait(enqueue(Collective::kOther, bytes,
               std::make_unique<Broadcast>(rank_, root, data, bytes, max_message_bytes_)));
}

void MpiCommunicator::gather_bytes(const void* shard, void* whole, int64_t shard_bytes) {
  wait(enqueue(Collective::kOther, size_ * shard_bytes,
               std::make_unique<AllGather>(rank_, shard, whole, shard_bytes, max_message_bytes_)));
}

// Moves the front call by what can be done without blocking. False: nothing moved.
bool MpiCommunicator::step() {
  if (queue_.empty()) return false;
  Call& call = queue_.front();
  if (!started_) {
    call.exchange->start();
    started_ = true;
  }
  if (block_ == call.exchange->blocks()) {
    queue_.pop_front();
    ++completed_;
    started_ = false;
    block_ = 0;
    return true;
  }
  post_exchanges(call);
  if (std::any_of(requests_.begin(), requests_.end(),
                  [](MPI_Request request) { return request != MPI_REQUEST_NULL; })) {
    return collect_finished();
  }
  call.exchange->finish(block_++);
  next_distance_ = 1;
  return true;
}

void MpiCommunicator::post_exchanges(const Call& call) {
  for (size_t slot = 0; slot < requests_.size() && next_distance_ < size_; slot += 2) {
    while (requests_[slot] == MPI_REQUEST_NULL && requests_[slot + 1] == MPI_REQUEST_NULL &&
           next_distance_ < size_) {
      const int to = (rank_ + next_distance_) % size_;
      const int from = (rank_ - next_distance_ + size_) % size_;
      ++next_distance_;
      receive(from, call.exchange->incoming(block_, from), slot);
      send(call.kind, to, call.exchange->outgoing(block_, to), slot + 1);
    }
  }
}

bool MpiCommunicator::collect_finished() {
  int count = 0;
  const int result = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                  finished_.data(), statuses_.data());
  if (result == MPI_ERR_IN_STATUS) {
    for (int i = 0; i < count; ++i) {
      session_.check(statuses_[static_cast<size_t>(i)].MPI_ERROR, "MPI_Testsome");
    }
  }
  session_.check(result, "MPI_Testsome");
  if (count <= 0) return false;
  check_finished(count);
  for (int i = 0; i < count; ++i) {
    status_.answered(messages_[static_cast<size_t>(finished_[static_cast<size_t>(i)])].peer);
  }
  return true;
}

// A longer message than expected fails in MPI; a shorter one must be found here.
void MpiCommunicator::check_finished(int count) const {
  for (int i = 0; i < count; ++i) {
    const int index = finished_[static_cast<size_t>(i)];
    if (index % 2 != 0) continue;  // a send
    const Message& message = messages_[static_cast<size_t>(index)];
    int bytes = 0;
    session_.check(MPI_Get_count(&statuses_[static_cast<size_t>(i)], MPI_BYTE, &bytes),
                   "MPI_Get_count");
    if (bytes == message.bytes) continue;
    throw InternalError("rank " + std::to_string(message.peer) + " sent " + std::to_string(bytes) +
                            " bytes where " + std::to_string(message.bytes) +
                            " were due: the ranks' collectives differ",
                        session_.where());
  }
}

// The one place where bytes leave this rank.
void MpiCommunicator::send(Collective kind, int peer, std::span<const std::byte> data,
                           size_t slot) {
  if (data.empty()) return;
  session_.check(MPI_Isend(data.data(), static_cast<int>(data.size()), MPI_BYTE, peer, kTag, comm_,
                           &requests_[slot]),
                 "MPI_Isend");
  messages_[slot] = {peer, static_cast<int64_t>(data.size())};
  ledger_[kind].wire_bytes += static_cast<int64_t>(data.size());
  status_.expect(peer);
}

void MpiCommunicator::receive(int peer, std::span<std::byte> data, size_t slot) {
  if (data.empty()) return;
  session_.check(MPI_Irecv(data.data(), static_cast<int>(data.size()), MPI_BYTE, peer, kTag, comm_,
                           &requests_[slot]),
                 "MPI_Irecv");
  messages_[slot] = {peer, static_cast<int64_t>(data.size())};
  status_.expect(peer);
}

}  // namespace memwall
