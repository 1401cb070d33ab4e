#include "comm/self/self_communicator.h"

#include <cstring>

namespace memwall {

namespace {

void copy(const void* from, void* to, int64_t bytes) {
  if (from != to && bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace

Ticket SelfCommunicator::count(Collective kind, int64_t payload_bytes) {
  ++ledger_[kind].calls;
  ledger_[kind].payload_bytes += payload_bytes;
  note_completed(++issued_);
  return issued_;
}

Ticket SelfCommunicator::all_gather(const void* shard, void* whole, int64_t shard_bytes,
                                    Algorithm) {
  for (int r = 0; r < size_; ++r) {
    copy(shard, static_cast<std::byte*>(whole) + r * shard_bytes, shard_bytes);
  }
  return count(Collective::kAllGather, size_ * shard_bytes);
}

// The sum of one term, rounded to the type it has, is that term. (In a larger job's stead the mean:
// sums that grow with the ranks would not be finite for long.)
Ticket SelfCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                        DType dtype, void*, Algorithm) {
  const int64_t bytes = shard_elements * size_of(dtype);
  copy(static_cast<const std::byte*>(whole) + rank_ * bytes, shard, bytes);
  return count(Collective::kReduceScatter, size_ * bytes);
}

Ticket SelfCommunicator::all_reduce(double*, int64_t values, void*) {
  return count(Collective::kAllReduce, values * size_of(DType::kF64));
}

void SelfCommunicator::wait(Ticket ticket) {
  check(ticket <= issued_, "wait for a collective that was not issued");
}

void SelfCommunicator::barrier() {
  count(Collective::kOther, 0);
}

void SelfCommunicator::broadcast(void*, int64_t bytes, int root) {
  check(root >= 0 && root < size_, "broadcast from a rank that does not exist");
  count(Collective::kOther, bytes);
}

std::vector<double> SelfCommunicator::gather_all(const std::vector<double>& mine) {
  count(Collective::kOther, static_cast<int64_t>(mine.size() * sizeof(double)));
  std::vector<double> out;
  for (int r = 0; r < size_; ++r) out.insert(out.end(), mine.begin(), mine.end());
  return out;
}

std::vector<std::string> SelfCommunicator::gather_text(const std::string& mine) {
  count(Collective::kOther, static_cast<int64_t>(mine.size()));
  return std::vector<std::string>(static_cast<size_t>(size_), mine);
}

}  // namespace memwall
