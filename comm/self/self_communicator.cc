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
  copy(shard, whole, shard_bytes);
  return count(Collective::kAllGather, shard_bytes);
}

// The sum of one term, rounded to the type it has, is that term.
Ticket SelfCommunicator::reduce_scatter(const void* whole, void* shard, int64_t shard_elements,
                                        DType dtype, void*, Algorithm) {
  copy(whole, shard, shard_elements * size_of(dtype));
  return count(Collective::kReduceScatter, shard_elements * size_of(dtype));
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
  check(root == 0, "broadcast from a rank that does not exist");
  count(Collective::kOther, bytes);
}

std::vector<double> SelfCommunicator::gather_all(const std::vector<double>& mine) {
  count(Collective::kOther, static_cast<int64_t>(mine.size() * sizeof(double)));
  return mine;
}

std::vector<std::string> SelfCommunicator::gather_text(const std::string& mine) {
  count(Collective::kOther, static_cast<int64_t>(mine.size()));
  return {mine};
}

}  // namespace memwall
