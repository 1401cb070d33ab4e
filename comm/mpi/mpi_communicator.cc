#include "comm/mpi/mpi_communicator.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "comm/agree.h"
#include "comm/mpi/ring_call.h"

namespace memwall {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// How a wait that has turned idle, or the thread, sleeps between polls: an eighth of the time since
// something moved, within these bounds. (Waits that only spin take the cores from ranks that still
// compute, and from the kernel's side of TCP; at 1 Gbit/s 25 KB arrive in the longest nap, a
// fraction of the sockets' buffers.)
constexpr microseconds kSpin{50}, kShortestNap{20}, kLongestNap{200};

// Linux lets sleeps be 50 us late unless it is told otherwise.
void nap(Clock::time_point moved_at) {
  thread_local const int exact = ::prctl(PR_SET_TIMERSLACK, 1000UL);
  static_cast<void>(exact);
  const Clock::duration share = (Clock::now() - moved_at) / 8;
  std::this_thread::sleep_for(std::clamp<Clock::duration>(share, kShortestNap, kLongestNap));
}

// Reset before the lock is released, also where a call throws.
class CallerWaits {
 public:
  explicit CallerWaits(bool& flag) : flag_(flag) { flag_ = true; }
  ~CallerWaits() { flag_ = false; }
  CallerWaits(const CallerWaits&) = delete;
  CallerWaits& operator=(const CallerWaits&) = delete;

 private:
  bool& flag_;
};

size_t places_for(int exchanges_in_flight, int ranks) {
  return 2 * static_cast<size_t>(std::max(1, std::min(exchanges_in_flight, ranks - 1)));
}

}  // namespace

MpiCommunicator::MpiCommunicator(const MpiSession& session, const MpiOptions& options)
    : session_(session),
      rank_(session.rank()),
      size_(session.size()),
      max_message_bytes_(options.max_message_bytes),
      pairwise_places_(places_for(options.exchanges_in_flight, session.size())),
      ranks_a_node_(options.ranks_a_node),
      exceptions_at_start_(std::uncaught_exceptions()),
      status_(session.rank(), session.size(), session.host()),
      termination_report_(status_),
      watchdog_(status_, options.timeout_seconds) {
  check(max_message_bytes_ >= 8 && max_message_bytes_ % 8 == 0 && options.exchanges_in_flight >= 1,
        "messages of whole doubles, at least one exchange in flight");
  check(ranks_a_node_ >= 1 && size_ % ranks_a_node_ == 0, "whole nodes");
  session_.check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  session_.check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  messages_.emplace(session_, comm_, std::max(pairwise_places_, kRingPlaces), ledger_, status_);
  if (ranks_a_node_ > 1) open_windows(options);
  if (options.progress_thread) {
    thread_.emplace([this](const std::stop_token& stop) { serve(stop); });
  }
}

// As with the session: an exception on its way out may be this rank's alone.
MpiCommunicator::~MpiCommunicator() {
  thread_.reset();  // stops and joins
  if (std::uncaught_exceptions() != exceptions_at_start_) return;
  windows_.reset();
  if (node_comm_ != MPI_COMM_NULL) MPI_Comm_free(&node_comm_);
  MPI_Comm_free(&comm_);
}

// A node may lack the memory that the others have: then all ranks throw.
void MpiCommunicator::open_windows(const MpiOptions& options) {
  const int node = rank_ / ranks_a_node_;
  session_.check(MPI_Comm_split(comm_, node, rank_, &node_comm_), "MPI_Comm_split");
  const RankGroup group{&session_, node_comm_, rank_ % ranks_a_node_, ranks_a_node_,
                        node * ranks_a_node_};
  std::string shortage;
  try {
    windows_.emplace(group, options.windows, ledger_, status_);
  } catch (const SharedError& error) {
    shortage = session_.host() + ": " + error.what();
  }
  int mine = shortage.empty() ? size_ : rank_, first = size_;
  session_.check(MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, comm_), "MPI_Allreduce");
  if (first == size_) return;
  windows_.reset();
  shortage.resize(1024);
  session_.check(
      MPI_Bcast(shortage.data(), static_cast<int>(shortage.size()), MPI_CHAR, first, comm_),
      "MPI_Bcast");
  throw SharedError(shortage.c_str(), "", "or choose communication.algorithm RING",
                    ExitCode::kBadInput);
}

int MpiCommunicator::ranks_a_node(Algorithm algorithm) const {
  return algorithm == Algorithm::kTwoLevel ? ranks_a_node_ : 1;
}

Ticket MpiCommunicator::enqueue(Collective kind, int64_t payload_bytes,
                                std::unique_ptr<MpiCall> call) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    ++ledger_[kind].calls;
    ledger_[kind].payload_bytes += payload_bytes;
    queue_.push_back(std::move(call));
    ++issued_;
    while (step()) {
    }
  }
  wake_.notify_one();
  return issued_;
}

Ticket MpiCommunicator::exchange(Collective kind, int64_t payload_bytes,
                                 std::unique_ptr<Exchange> exchange) {
  return enqueue(
      kind, payload_bytes,
      std::make_unique<PairwiseCall>(rank_, size_, kind, std::move(exchange), pairwise_places_));
}

Ticket MpiCommunicator::all_gather(const void* shard, void* whole, int64_t shard_bytes,
                                   Algorithm algorithm) {
  const int64_t payload = size_ * shard_bytes;
  if (algorithm == Algorithm::kPairwise) {
    return exchange(
        Collective::kAllGather, payload,
        std::make_unique<AllGather>(rank_, shard, whole, shard_bytes, max_message_bytes_));
  }
  const Ring ring(rank_, size_, ranks_a_node(algorithm));
  return enqueue(Collective::kAllGather, payload,
                 std::make_unique<RingGather>(ring, shard, whole, shard_bytes,
                                              ring.places() > 1 ? &*windows_ : nullptr));
}

Ticket MpiCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                       DType dtype, void* receive, Algorithm algorithm) {
  const int64_t payload = size_ * shard_elements * size_of(dtype);
  if (algorithm == Algorithm::kPairwise) {
    return exchange(Collective::kReduceScatter, payload,
                    std::make_unique<ReduceScatter>(rank_, size_, whole, shard, shard_elements,
                                                    dtype, receive));
  }
  const Ring ring(rank_, size_, ranks_a_node(algorithm));
  return enqueue(Collective::kReduceScatter, payload,
                 std::make_unique<RingScatter>(ring, whole, shard, shard_elements, dtype, receive,
                                               ring.places() > 1 ? &*windows_ : nullptr));
}

Ticket MpiCommunicator::all_reduce(double* values, int64_t count, void* receive) {
  return exchange(
      Collective::kAllReduce, count * size_of(DType::kF64),
      std::make_unique<AllReduce>(rank_, size_, values, count, receive, max_message_bytes_));
}

// The thread's business where there is one.
void MpiCommunicator::progress() {
  if (thread_) return;
  const std::lock_guard lock(mutex_);
  while (step()) {
  }
}

// Polls instead of MPI_Waitall, so that the watchdog sees which peers have answered; yields, so
// that more ranks than cores get on, and between hosts sleeps.
void MpiCommunicator::wait(Ticket ticket) {
  check(ticket <= issued_, "wait for a collective that was not issued");
  std::unique_lock lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (ticket <= completed_) return;
  const WaitScope scope(status_);
  const CallerWaits here(caller_waits_);
  auto moved_at = Clock::now();
  while (completed_ < ticket) {
    if (failure_) std::rethrow_exception(failure_);
    if (step()) {
      moved_at = Clock::now();
      continue;
    }
    lock.unlock();
    if (thread_ && Clock::now() - moved_at > kSpin) {
      nap(moved_at);
    } else {
      std::this_thread::yield();
    }
    lock.lock();
  }
  wake_.notify_one();  // the lock is released after the flag
}

void MpiCommunicator::broadcast(void* data, int64_t bytes, int root) {
  check(root >= 0 && root < size_, "broadcast from a rank that does not exist");
  wait(exchange(Collective::kOther, bytes,
                std::make_unique<Broadcast>(rank_, root, data, bytes, max_message_bytes_)));
}

void MpiCommunicator::gather_bytes(const void* shard, void* whole, int64_t shard_bytes) {
  wait(exchange(Collective::kOther, size_ * shard_bytes,
                std::make_unique<AllGather>(rank_, shard, whole, shard_bytes, max_message_bytes_)));
}

// Moves the front call by what can be done without blocking. False: nothing moved.
bool MpiCommunicator::step() {
  if (queue_.empty()) return false;
  MpiCall& call = *queue_.front();
  if (!started_) {
    call.start();
    started_ = true;
  }
  if (call.is_done()) {
    queue_.pop_front();
    note_completed(++completed_);
    started_ = false;
    return true;
  }
  if (!call.step(*messages_)) return false;
  status_.moved();
  return true;
}

// The thread's loop: sleeps where there is nothing to move, or the caller does it.
void MpiCommunicator::serve(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  auto moved_at = Clock::now();
  try {
    while (!stop.stop_requested()) {
      if (queue_.empty() || caller_waits_) {
        wake_.wait(lock, stop, [&] { return !queue_.empty() && !caller_waits_; });
        moved_at = Clock::now();
        continue;
      }
      const bool moved = step();
      if (moved) moved_at = Clock::now();
      lock.unlock();
      if (!moved) nap(moved_at);
      lock.lock();
    }
  } catch (...) {
    failure_ = std::current_exception();
  }
}

}  // namespace memwall
