// A collective as steps over messages, moved by whoever has time for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/exchange.h"
#include "comm/ledger.h"
#include "comm/mpi/messages.h"

namespace memwall {

class MpiCall {
 public:
  virtual ~MpiCall() = default;
  virtual void start() = 0;
  // What can be done without blocking. False: nothing moved.
  virtual bool step(MpiMessages& messages) = 0;
  virtual bool is_done() const = 0;  // nothing of it is in flight then
};

// Walks an exchange block by block; in its k-th exchange of a block rank r sends to r + k and
// receives from r - k (mod N), so many at a time as half the places allow.
class PairwiseCall final : public MpiCall {
 public:
  PairwiseCall(int rank, int ranks, Collective kind, std::unique_ptr<Exchange> exchange,
               size_t places);
  void start() override { exchange_->start(); }
  bool step(MpiMessages& messages) override;
  bool is_done() const override { return block_ == exchange_->blocks(); }

 private:
  void post(MpiMessages& messages);

  const int rank_, ranks_;
  const Collective kind_;
  const std::unique_ptr<Exchange> exchange_;
  const size_t places_;
  int64_t block_ = 0;
  int next_distance_ = 1;  // k of the next exchange to post
};

}  // namespace memwall
