#include "comm/mpi/mpi_call.h"

#include <utility>

namespace memwall {

PairwiseCall::PairwiseCall(int rank, int ranks, Collective kind, std::unique_ptr<Exchange> exchange,
                           size_t places)
    : rank_(rank), ranks_(ranks), kind_(kind), exchange_(std::move(exchange)), places_(places) {}

bool PairwiseCall::step(MpiMessages& messages) {
  post(messages);
  if (!messages.all_free()) return messages.collect();
  exchange_->finish(block_++);
  next_distance_ = 1;
  return true;
}

// Exchange slot i holds a receive at place 2 i and a send at 2 i + 1.
void PairwiseCall::post(MpiMessages& messages) {
  for (size_t place = 0; place < places_ && next_distance_ < ranks_; place += 2) {
    while (messages.is_free(place) && messages.is_free(place + 1) && next_distance_ < ranks_) {
      const int to = (rank_ + next_distance_) % ranks_;
      const int from = (rank_ - next_distance_ + ranks_) % ranks_;
      ++next_distance_;
      messages.receive(from, exchange_->incoming(block_, from), place);
      messages.send(kind_, to, exchange_->outgoing(block_, to), place + 1);
    }
  }
}

}  // namespace memwall
