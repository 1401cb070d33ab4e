#include "runtime/train/clock_offsets.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "runtime/base/error.h"

namespace memwall {
namespace {

// In each round all ranks exchange stamps at once. A rank that enters before the others stamps too
// early, so they take turns at entering last, by more than they come out apart.
constexpr int64_t kRounds = 128, kLeastCycles = 4, kMostCycles = 16;
constexpr int64_t kPauseNs = 20'000;

void pause(const ReadClock& now) {
  const int64_t begin = now();
  while (now() - begin < kPauseNs) {
  }
}

}  // namespace

int64_t steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

void OffsetFilter::outward(int64_t sent_here_ns, int64_t received_there_ns) {
  outward_ = std::min(outward_, received_there_ns - sent_here_ns);
}

void OffsetFilter::homeward(int64_t sent_there_ns, int64_t received_here_ns) {
  homeward_ = std::min(homeward_, received_here_ns - sent_there_ns);
}

ClockOffset OffsetFilter::offset() const {
  check(outward_ != INT64_MAX && homeward_ != INT64_MAX, "no message in one of the directions");
  return {(outward_ - homeward_) / 2, (outward_ + homeward_ + 1) / 2};
}

RunClock::RunClock(Communicator& comm, ReadClock now) : comm_(comm), now_(std::move(now)) {
  measure();
  int64_t origin = now_();
  comm_.broadcast(&origin, sizeof origin, 0);
  origin_ = origin;
}

void RunClock::measure() {
  const auto ranks = static_cast<size_t>(comm_.size());
  const auto rank = static_cast<size_t>(comm_.rank());
  if (ranks == 1) return;
  const int64_t base = now_();  // stamps count from it: small enough to be exact as doubles
  const int64_t cycles = std::clamp(kRounds / comm_.size(), kLeastCycles, kMostCycles);
  // Between rank 0, "here", and each rank: that rank has the outward readings, rank 0 the others.
  std::vector<OffsetFilter> homeward(ranks);
  OffsetFilter filter;
  for (int64_t round = 0; round < cycles * comm_.size(); ++round) {
    if (round % comm_.size() == comm_.rank()) pause(now_);
    const std::vector<double> sent = comm_.gather_all({static_cast<double>(now_() - base)});
    const int64_t received = now_() - base;
    filter.outward(static_cast<int64_t>(sent[0]), received);
    for (size_t r = 0; r < ranks; ++r) {
      homeward[r].homeward(static_cast<int64_t>(sent[r]), received);
    }
  }
  std::vector<int64_t> of_rank_0 = {base};
  for (const OffsetFilter& f : homeward) of_rank_0.push_back(f.least_homeward_ns());
  comm_.broadcast(of_rank_0.data(), static_cast<int64_t>(of_rank_0.size() * sizeof(int64_t)), 0);
  if (rank == 0) return;
  filter.homeward(0, of_rank_0[1 + rank]);
  offset_ = filter.offset();
  offset_.offset_ns += base - of_rank_0[0];
}

}  // namespace memwall
