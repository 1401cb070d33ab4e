// What the collectives compute, on every rank, in and out of place, queued, early and late.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>

#include "comm/exchange.h"
#include "comm/mpi/mpi_communicator.h"
#include "comm/shared/shared_communicator.h"
#include "runtime/base/half.h"
#include "tests/comm/comm_fixture.h"
#include "tests/support/delayed.h"
#include "tests/support/mpi_world.h"

namespace memwall::test {
namespace {

constexpr int64_t kSmallWindow = 16384;  // slots of about 2 KiB

void for_each_transport(const std::function<void(Communicator&)>& check_case) {
  {
    SCOPED_TRACE("MPI");
    check_case(world());
  }
  {
    SCOPED_TRACE("shared memory");
    check_case(shared_world());
  }
}

// All the ways a communicator may behave; every case below holds for each.
void for_each_timing(const std::function<void(Communicator&)>& check_case) {
  for_each_transport([&](Communicator& comm) {
    {
      SCOPED_TRACE("plain");
      check_case(comm);
    }
    {
      SCOPED_TRACE("eager");
      EagerCommunicator eager(comm);
      check_case(eager);
    }
    {
      SCOPED_TRACE("late");
      LateCommunicator late(comm);
      check_case(late);
    }
  });
  if (world().size() > 1) {
    SCOPED_TRACE("small windows");
    SharedCommunicator small(*session(),
                             {.timeout_seconds = 60, .windows = {.window_bytes = kSmallWindow}});
    check_case(small);
  }
  if (session() != nullptr) {
    SCOPED_TRACE("small messages, one exchange in flight");
    MpiCommunicator small(
        *session(), {.timeout_seconds = 60, .max_message_bytes = 1000, .exchanges_in_flight = 1});
    check_case(small);
  }
}

void check_all_gather(Communicator& comm, int64_t shard, bool in_place) {
  const auto n = static_cast<size_t>(shard);
  const auto own = static_cast<size_t>(comm.rank()) * n;
  std::vector<float> whole(n * static_cast<size_t>(comm.size()), -1.0f);
  std::vector<float> part = spread_values(comm.rank(), shard);
  if (in_place) std::copy(part.begin(), part.end(), whole.begin() + static_cast<ptrdiff_t>(own));
  comm.wait(comm.all_gather(in_place ? whole.data() + own : part.data(), whole.data(),
                            shard * size_of(DType::kF32)));
  for (int rank = 0; rank < comm.size(); ++rank) {
    for (int64_t i = 0; i < shard; ++i) {
      ASSERT_EQ(whole[static_cast<size_t>(rank * shard + i)], spread_value(rank, i))
          << "rank " << rank << " element " << i;
    }
  }
}

void check_reduce_scatter(Communicator& comm, int64_t shard, bool in_place) {
  const int64_t begin = comm.rank() * shard;
  std::vector<float> whole = spread_values(comm.rank(), shard * comm.size());
  std::vector<float> part(static_cast<size_t>(shard), -1.0f);
  float* out = in_place ? whole.data() + begin : part.data();
  Receive receive = scatter_receive(comm, shard, DType::kF32);
  comm.wait(comm.reduce_scatter(whole.data(), out, shard, DType::kF32, receive.data()));
  EXPECT_TRUE(receive.guard_intact());
  for (int64_t i = 0; i < shard; ++i) {
    ASSERT_EQ(out[i], spread_sum(comm.size(), begin + i)) << "element " << i;
  }
  for (int64_t i = 0; i < static_cast<int64_t>(whole.size()); ++i) {
    if (in_place && i >= begin && i < begin + shard) continue;
    ASSERT_EQ(whole[static_cast<size_t>(i)], spread_value(comm.rank(), i)) << "contribution " << i;
  }
}

// Without the launcher every case would pass on one rank.
TEST(Collectives, RunOnAsManyRanksAsAskedFor) {
  const char* ranks = std::getenv("MEMWALL_TEST_RANKS");
  ASSERT_NE(ranks, nullptr);
  EXPECT_EQ(world().size(), std::atoi(ranks));
}

TEST(Collectives, AllGather) {
  for_each_timing([](Communicator& comm) {
    for (const int64_t shard : {1, 7, 1000, 40001}) {
      for (const bool in_place : {false, true}) check_all_gather(comm, shard, in_place);
    }
  });
}

TEST(Collectives, ReduceScatterSumsInRankOrder) {
  for_each_timing([](Communicator& comm) {
    for (const int64_t shard : {1, 3, 1023, 1025, 30011}) {
      for (const bool in_place : {false, true}) check_reduce_scatter(comm, shard, in_place);
    }
  });
}

TEST(Collectives, TheDataOfTheseTestsAreOrderSensitive) {
  int different = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    const float forward = (spread_value(0, i) + spread_value(1, i)) + spread_value(2, i);
    const float backward = (spread_value(2, i) + spread_value(1, i)) + spread_value(0, i);
    different += forward != backward ? 1 : 0;
  }
  EXPECT_GT(different, 100);
}

TEST(Collectives, ReduceScatterOfSeveralBlocks) {
  constexpr int64_t kShard = (int64_t{5} << 18) + 64;  // 5 MiB and a rest
  if (world().size() > 1) {
    ASSERT_LT(reduce_scatter_block_elements(world().size(), kShard, DType::kF32), kShard);
  }
  for_each_transport([](Communicator& comm) {
    check_reduce_scatter(comm, kShard, false);
    check_reduce_scatter(comm, kShard, true);
  });
}

template <class T>
void check_narrow(Communicator& comm) {
  constexpr DType kNarrow = std::is_same_v<T, BFloat16> ? DType::kBF16 : DType::kF16;
  constexpr int64_t kShard = 5003;
  std::vector<T> whole(static_cast<size_t>(kShard * comm.size()));
  const auto value = [](int rank, int64_t i) {
    return static_cast<T>(1e-2f * spread_value(rank, i));
  };
  for (size_t i = 0; i < whole.size(); ++i) whole[i] = value(comm.rank(), static_cast<int64_t>(i));
  std::vector<T> part(kShard);
  Receive receive = scatter_receive(comm, kShard, kNarrow);
  comm.wait(comm.reduce_scatter(whole.data(), part.data(), kShard, kNarrow, receive.data()));
  for (int64_t i = 0; i < kShard; ++i) {
    const int64_t at = comm.rank() * kShard + i;
    auto sum = static_cast<float>(value(0, at));
    for (int rank = 1; rank < comm.size(); ++rank) sum += static_cast<float>(value(rank, at));
    ASSERT_EQ(static_cast<float>(part[static_cast<size_t>(i)]),
              static_cast<float>(static_cast<T>(sum)))
        << "element " << i;
  }
}

TEST(Collectives, ReduceScatterOfSixteenBits) {
  for_each_transport(check_narrow<_Float16>);
  for_each_transport(check_narrow<BFloat16>);
}

void check_exact_sums(Communicator& comm) {
  const int ranks = comm.size();
  constexpr int64_t kShard = 2000;
  std::vector<double> whole(static_cast<size_t>(kShard * ranks));
  for (size_t i = 0; i < whole.size(); ++i) {
    whole[i] = static_cast<double>(i) + 0x1p-30 * (comm.rank() + 1);
  }
  std::vector<double> part(kShard);
  Receive receive = scatter_receive(comm, kShard, DType::kF64);
  comm.wait(comm.reduce_scatter(whole.data(), part.data(), kShard, DType::kF64, receive.data()));
  for (int64_t i = 0; i < kShard; ++i) {
    const auto index = static_cast<double>(comm.rank() * kShard + i);
    ASSERT_EQ(part[static_cast<size_t>(i)], ranks * index + 0x1p-30 * (ranks * (ranks + 1)) / 2.0);
  }
}

TEST(Collectives, ReduceScatterOfExactSums) {
  for_each_transport(check_exact_sums);
}

TEST(Collectives, AllReduceSumsInRankOrder) {
  for_each_timing([](Communicator& comm) {
    for (const int64_t count : {1, 5, 777}) {
      std::vector<double> values(static_cast<size_t>(count));
      const auto value = [](int rank, int64_t i) {
        return std::pow(10.0, rank % 2 * 16) * spread_value(rank, i);
      };
      for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = value(comm.rank(), i);
      Receive receive(all_reduce_receive_bytes(comm.size(), count));
      comm.wait(comm.all_reduce(values.data(), count, receive.data()));
      EXPECT_TRUE(receive.guard_intact());
      for (int64_t i = 0; i < count; ++i) {
        double sum = value(0, i);
        for (int rank = 1; rank < comm.size(); ++rank) sum += value(rank, i);
        ASSERT_EQ(values[static_cast<size_t>(i)], sum) << "element " << i;
      }
    }
  });
}

// A chain: what one call writes, the next one reads. Only the last is waited for.
TEST(Collectives, QueuedCallsRunInOrder) {
  for_each_timing([](Communicator& comm) {
    constexpr int64_t kShard = 20000;
    const int64_t begin = comm.rank() * kShard;
    std::vector<float> whole = spread_values(comm.rank(), kShard * comm.size());
    std::vector<float> copy(whole.size(), -1.0f);
    double scalar = comm.rank() + 1.0;
    Receive receive = scatter_receive(comm, kShard, DType::kF32);
    Receive scalar_receive(all_reduce_receive_bytes(comm.size(), 1));
    comm.reduce_scatter(whole.data(), whole.data() + begin, kShard, DType::kF32, receive.data());
    comm.all_gather(whole.data() + begin, whole.data(), kShard * size_of(DType::kF32));
    comm.progress();
    comm.all_reduce(&scalar, 1, scalar_receive.data());
    comm.wait(comm.all_gather(whole.data() + begin, copy.data(), kShard * size_of(DType::kF32)));
    EXPECT_EQ(scalar, comm.size() * (comm.size() + 1) / 2.0);
    for (size_t i = 0; i < copy.size(); ++i) {
      ASSERT_EQ(copy[i], spread_sum(comm.size(), static_cast<int64_t>(i))) << "element " << i;
    }
    EXPECT_EQ(copy, whole);
  });
}

void check_progress(Communicator& comm) {
  std::vector<double> whole(static_cast<size_t>(comm.size()), -1.0);
  const double mine = comm.rank();
  comm.barrier();
  const Ticket ticket = comm.all_gather(&mine, whole.data(), sizeof(double));
  const volatile double& last = whole[static_cast<size_t>((comm.rank() + 1) % comm.size())];
  while (last < 0.0) comm.progress();
  EXPECT_EQ(last, (comm.rank() + 1) % comm.size());
  comm.wait(ticket);
}

TEST(Collectives, ProgressAloneCompletesACall) {
  for_each_transport(check_progress);
}

TEST(Collectives, LateDoesNothingBeforeTheWait) {
  LateCommunicator late(world());
  std::vector<double> whole(static_cast<size_t>(late.size()), -1.0);
  const double mine = late.rank();
  const Ticket ticket = late.all_gather(&mine, whole.data(), sizeof(double), Algorithm::kPairwise);
  late.progress();
  EXPECT_EQ(whole[static_cast<size_t>(late.rank())], -1.0);
  late.wait(ticket);
  EXPECT_EQ(whole[static_cast<size_t>(late.rank())], mine);
}

TEST(Collectives, EmptyBuffers) {
  for_each_timing([](Communicator& comm) {
    comm.all_gather(nullptr, nullptr, 0);
    comm.wait(comm.reduce_scatter(nullptr, nullptr, 0, DType::kF32, nullptr));
    EXPECT_TRUE(comm.gather_all({}).empty());
    EXPECT_EQ(comm.gather_text("").size(), static_cast<size_t>(comm.size()));
  });
}

TEST(Collectives, BlockingHelpers) {
  for_each_timing([](Communicator& comm) {
    comm.barrier();
    for (int root = 0; root < comm.size(); ++root) {
      std::vector<int> data(5000, comm.rank() == root ? root + 100 : -1);
      comm.broadcast(data.data(), static_cast<int64_t>(data.size() * sizeof(int)), root);
      EXPECT_EQ(data, std::vector<int>(5000, root + 100));
    }
    const std::vector<double> gathered = comm.gather_all({comm.rank() + 0.5, -comm.rank() * 1.0});
    const std::vector<std::string> texts =
        comm.gather_text(std::string(static_cast<size_t>(3 * comm.rank()), 'x') + '\0');
    for (int rank = 0; rank < comm.size(); ++rank) {
      const auto r = static_cast<size_t>(rank);
      EXPECT_EQ(gathered.at(2 * r), rank + 0.5);
      EXPECT_EQ(gathered.at(2 * r + 1), -rank);
      EXPECT_EQ(texts.at(r), std::string(3 * r, 'x') + '\0');
    }
  });
}

TEST(Collectives, WrongUseIsRefused) {
  for_each_transport([](Communicator& comm) {
    EXPECT_THROW(comm.wait(Ticket{1} << 40), InternalError);
    char data = 0;
    EXPECT_THROW(comm.broadcast(&data, 1, comm.size()), InternalError);
  });
}

// Nothing that a rank believes about sizes goes unchecked on the other side.
TEST(Collectives, DifferentSizesAreFound) {
  if (session() == nullptr || world().size() != 2) GTEST_SKIP() << "for two ranks";
  MpiCommunicator comm(*session(), {.timeout_seconds = 60});
  std::vector<double> whole(4);
  const std::vector<double> mine(2);
  const int64_t bytes = comm.rank() == 0 ? 8 : 16;  // the message arrives too long, too short
  EXPECT_THROW(comm.wait(comm.all_gather(mine.data(), whole.data(), bytes, Algorithm::kPairwise)),
               Error);
}

}  // namespace
}  // namespace memwall::test
