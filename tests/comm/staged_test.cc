// Collectives staged through the host, on a device that runs as late as it may.
#include "comm/staged/staged_communicator.h"

#include <gtest/gtest.h>

#include "comm/make_communicator.h"
#include "runtime/base/half.h"
#include "tests/comm/late_device.h"
#include "tests/support/mpi_world.h"

namespace memwall {
namespace {

using test::LateDevice;
constexpr auto kCompute = Device::Queue::kCompute;

class Staged : public ::testing::TestWithParam<int64_t> {  // chunk bytes
 protected:
  Staged()
      : host_(make_communicator(test::session(), 60.0,
                                choose_fabric({}, hosting_of(test::session())))),
        staged_(device_, *host_, GetParam()),
        ranks_(host_->size()),
        rank_(host_->rank()) {}

  // Values that the compute queue writes, at its own time.
  void compute(std::vector<float>& to, std::vector<float> values) {
    device_.put(kCompute, [&to, values] { std::copy(values.begin(), values.end(), to.begin()); });
  }
  std::vector<float> seen_by_compute(const std::vector<float>& memory) {
    std::vector<float> out;
    device_.put(kCompute, [&] { out = memory; });
    device_.finish(kCompute);
    return out;
  }
  static float value(int64_t rank, int64_t i) {
    return static_cast<float>((rank + 1) * 1000 + i % 997) * 0.25f;
  }

  LateDevice device_;
  std::unique_ptr<Communicator> host_;
  StagedCommunicator staged_;
  const int64_t ranks_, rank_;
};

constexpr int64_t kElements = 64 * 75;  // a shard's: several chunks, the last a part of one

TEST_P(Staged, GathersInPlaceWhatComputeHasYetToWrite) {
  std::vector<float> whole(static_cast<size_t>(ranks_ * kElements), -1.0f);
  std::vector<float> mine = whole;
  for (int64_t i = 0; i < kElements; ++i) {
    mine[static_cast<size_t>(rank_ * kElements + i)] = value(rank_, i);
  }
  compute(whole, mine);
  const Ticket ticket = staged_.all_gather(whole.data() + rank_ * kElements, whole.data(),
                                           kElements * size_of(DType::kF32), Algorithm::kPairwise);
  staged_.wait(ticket);
  const std::vector<float> got = seen_by_compute(whole);
  for (int64_t r = 0; r < ranks_; ++r) {
    for (int64_t i = 0; i < kElements; ++i) {
      ASSERT_EQ(got[static_cast<size_t>(r * kElements + i)], value(r, i)) << r << " " << i;
    }
  }
}

// As when a rank leaves by an error: MPI or another rank may still write there.
TEST_P(Staged, WhatIsWithTheHostsCommunicatorIsNotFreed) {
  std::vector<float> whole(static_cast<size_t>(ranks_ * kElements), 1.0f);
  const auto start = [&](StagedCommunicator& staged) {
    staged.all_gather(whole.data() + rank_ * kElements, whole.data(),
                      kElements * size_of(DType::kF32), Algorithm::kPairwise);
    EXPECT_GT(device_.pinned(), 0);
  };
  {
    StagedCommunicator staged(device_, *host_, GetParam());
    start(staged);
    for (int i = 0; i < 4; ++i) staged.progress();  // the first chunk is with the host by now
  }
  EXPECT_GT(device_.pinned(), 0);
  host_->barrier();  // ... and is moved here
  const int before = device_.pinned();
  {
    StagedCommunicator staged(device_, *host_, int64_t{1} << 30);
    start(staged);
    staged.wait(1);
  }
  EXPECT_EQ(device_.pinned(), before);
}

TEST_P(Staged, AScattersResultLeavesWithTheGatherBehindIt) {
  std::vector<float> whole(static_cast<size_t>(ranks_ * kElements)), sums(whole.size(), -1.0f);
  std::vector<float> mine = whole;
  for (int64_t i = 0; i < ranks_ * kElements; ++i) mine[static_cast<size_t>(i)] = value(rank_, i);
  compute(whole, mine);
  float* const shard = sums.data() + rank_ * kElements;
  staged_.reduce_scatter(whole.data(), shard, kElements, DType::kF32, nullptr,
                         Algorithm::kPairwise);
  const Ticket last = staged_.all_gather(shard, sums.data(), kElements * size_of(DType::kF32),
                                         Algorithm::kPairwise);
  staged_.progress();
  staged_.wait(last);
  const std::vector<float> got = seen_by_compute(sums);
  for (int64_t i = 0; i < ranks_ * kElements; ++i) {
    float sum = value(0, i);
    for (int64_t r = 1; r < ranks_; ++r) sum += value(r, i);
    ASSERT_EQ(got[static_cast<size_t>(i)], sum) << i;
  }
}

TEST_P(Staged, SumsHalvesInRankOrderAndRoundsOnce) {
  std::vector<uint16_t> whole(static_cast<size_t>(ranks_ * kElements));
  const auto half = [](int64_t rank, int64_t i) {
    return float_to_half<uint32_t>(value(rank, i) * 1.001f);
  };
  for (int64_t i = 0; i < ranks_ * kElements; ++i) {
    whole[static_cast<size_t>(i)] = static_cast<uint16_t>(half(rank_, i));
  }
  std::vector<uint16_t> shard(static_cast<size_t>(kElements));
  staged_.wait(staged_.reduce_scatter(whole.data(), shard.data(), kElements, DType::kF16, nullptr,
                                      Algorithm::kPairwise));
  device_.finish(kCompute);
  for (int64_t i = 0; i < kElements; ++i) {
    float sum = 0.0f;
    for (int64_t r = 0; r < ranks_; ++r) {
      sum += half_to_float<float>(half(r, rank_ * kElements + i));
    }
    ASSERT_EQ(shard[static_cast<size_t>(i)], float_to_half<uint32_t>(sum)) << i;
  }
}

TEST_P(Staged, CountsCallsAndWhatTheHostSent) {
  std::vector<float> whole(static_cast<size_t>(ranks_ * kElements));
  const int64_t bytes = kElements * size_of(DType::kF32);
  const Ledger before = staged_.ledger();
  staged_.wait(staged_.all_gather(whole.data() + rank_ * kElements, whole.data(), bytes,
                                  Algorithm::kPairwise));
  std::vector<double> scalars(3, static_cast<double>(rank_));
  staged_.wait(staged_.all_reduce(scalars.data(), 3, nullptr));
  device_.finish(kCompute);
  EXPECT_EQ(scalars[2], static_cast<double>(ranks_ * (ranks_ - 1)) / 2.0);
  const Ledger after = staged_.ledger();
  const Traffic &gather = after[Collective::kAllGather], &was = before[Collective::kAllGather];
  EXPECT_EQ(gather.calls - was.calls, 1);
  EXPECT_EQ(gather.payload_bytes - was.payload_bytes, ranks_ * bytes);
  EXPECT_EQ(gather.wire_bytes - was.wire_bytes, all_gather_wire_bytes(ranks_, bytes));
  EXPECT_EQ(after[Collective::kAllReduce].wire_bytes - before[Collective::kAllReduce].wire_bytes,
            all_reduce_wire_bytes(ranks_, 3));
}

// One chunk, and many more than may be under way: pinned memory is bounded all the same.
INSTANTIATE_TEST_SUITE_P(Chunks, Staged, ::testing::Values(int64_t{8} << 20, int64_t{2048}));

TEST_P(Staged, TakesPinnedMemoryForTheChunksUnderWayOnly) {
  std::vector<float> whole(static_cast<size_t>(ranks_ * kElements));
  for (int i = 0; i < 3; ++i) {
    staged_.wait(staged_.all_gather(whole.data() + rank_ * kElements, whole.data(),
                                    kElements * size_of(DType::kF32), Algorithm::kPairwise));
  }
  const int64_t all = ranks_ * kElements * size_of(DType::kF32);
  const int64_t chunk = std::max<int64_t>(GetParam(), ranks_ * kSlotAlignment * 2);
  EXPECT_GT(staged_.pinned_bytes(), 0);
  EXPECT_LE(staged_.pinned_bytes(),
            static_cast<int64_t>(StagedCommunicator::kMostUnderWay) * std::min(all, chunk) + 256);
}

}  // namespace
}  // namespace memwall
