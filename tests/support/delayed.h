// The two extremes of when a collective may read and write its buffers: a plan that gives the same
// numbers under both has its waits right.
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "comm/communicator.h"

namespace memwall::test {

// Passes everything on; what EagerCommunicator and LateCommunicator share.
class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(Communicator& inner) : inner_(inner) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  Transport transport() const override { return inner_.transport(); }
  int window_ranks() const override { return inner_.window_ranks(); }
  void abandon() override { inner_.abandon(); }
  void set_activity(const char* activity) override { inner_.set_activity(activity); }
  const Ledger& ledger() const override { return inner_.ledger(); }

  // Blocking calls keep their place in the order of calls.
  void barrier() override {
    settle();
    inner_.barrier();
  }
  void broadcast(void* data, int64_t bytes, int root) override {
    settle();
    inner_.broadcast(data, bytes, root);
  }
  std::vector<double> gather_all(const std::vector<double>& mine) override {
    settle();
    return inner_.gather_all(mine);
  }
  std::vector<std::string> gather_text(const std::string& mine) override {
    settle();
    return inner_.gather_text(mine);
  }

 protected:
  virtual void settle() {}  // makes all earlier calls complete
  Communicator& inner_;
};

// Every call is complete when it returns.
class EagerCommunicator final : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes,
                    Algorithm algorithm) override {
    return done(inner_.all_gather(shard, whole, shard_bytes, algorithm));
  }
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void* receive, Algorithm algorithm) override {
    return done(inner_.reduce_scatter(whole, shard, shard_elements, dtype, receive, algorithm));
  }
  Ticket all_reduce(double* values, int64_t count, void* receive) override {
    return done(inner_.all_reduce(values, count, receive));
  }
  void progress() override {}
  void wait(Ticket ticket) override { inner_.wait(ticket); }

 private:
  Ticket done(Ticket ticket) {
    inner_.wait(ticket);
    return ticket;
  }
};

// A call does nothing, not even its copies, until it is waited for.
class LateCommunicator final : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;
  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes,
                    Algorithm algorithm) override {
    return defer([=, this] { return inner_.all_gather(shard, whole, shard_bytes, algorithm); });
  }
  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype,
                        void* receive, Algorithm algorithm) override {
    return defer([=, this] {
      return inner_.reduce_scatter(whole, shard, shard_elements, dtype, receive, algorithm);
    });
  }
  Ticket all_reduce(double* values, int64_t count, void* receive) override {
    return defer([=, this] { return inner_.all_reduce(values, count, receive); });
  }
  void progress() override {}
  void wait(Ticket ticket) override {
    check(ticket <= issued_, "wait for a collective that was not issued");
    for (; completed_ < ticket; ++completed_) {
      inner_.wait(deferred_.front()());
      deferred_.pop_front();
    }
  }

 private:
  Ticket defer(std::function<Ticket()> call) {
    deferred_.push_back(std::move(call));
    return ++issued_;
  }
  void settle() override { wait(issued_); }

  std::deque<std::function<Ticket()>> deferred_;
  Ticket issued_ = 0, completed_ = 0;
};

}  // namespace memwall::test
