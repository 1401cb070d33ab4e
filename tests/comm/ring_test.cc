// Rings and two levels: what they compute, in which order, what they send and to whom.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "comm/mpi/mpi_communicator.h"
#include "comm/mpi/ring_order.h"
#include "runtime/base/half.h"
#include "tests/comm/comm_fixture.h"
#include "tests/support/mpi_world.h"
#include "tests/support/pmpi_shim.h"

namespace memwall::test {
namespace {

struct RingSetup {
  Algorithm algorithm = Algorithm::kRing;
  int ranks_a_node = 1;
};

// The ranks of a test all share one host; nodes are what the options say.
void for_each_setup(const std::function<void(Communicator&, const RingSetup&)>& check_case) {
  if (session() == nullptr) return;
  const int ranks = session()->size();
  for (const bool thread : {false, true}) {
    for (int a_node = 1; a_node <= ranks; ++a_node) {
      if (ranks % a_node != 0) continue;
      for (const Algorithm algorithm : {Algorithm::kRing, Algorithm::kTwoLevel}) {
        if (algorithm == Algorithm::kRing && a_node > 1) continue;
        SCOPED_TRACE(testing::Message()
                     << name_of(algorithm) << ", " << a_node << " ranks a node, thread " << thread);
        MpiCommunicator comm(*session(), {.timeout_seconds = 60,
                                          .progress_thread = thread,
                                          .ranks_a_node = a_node,
                                          .windows = {.window_bytes = 200000}});
        check_case(comm, {algorithm, algorithm == Algorithm::kTwoLevel ? a_node : 1});
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

template <class T>
T value(int rank, int64_t i) {
  return static_cast<T>(1e-2f * spread_value(rank, i));
}

// Element i of what `owner` gets, as the header says: a node's ranks first, in order, then the
// nodes behind the owner's, its own last; rounded to T at each step.
template <class T>
T ring_sum(const Communicator& comm, const RingSetup& setup, int owner, int64_t i) {
  const int g = setup.ranks_a_node, nodes = comm.size() / g;
  const auto of_node = [&](int node) {
    auto sum = static_cast<float>(value<T>(node * g, i));
    for (int place = 1; place < g; ++place) {
      sum += static_cast<float>(value<T>(node * g + place, i));
    }
    return static_cast<T>(sum);
  };
  T sum = of_node((owner / g + 1) % nodes);
  for (int hop = 2; hop <= nodes; ++hop) {
    sum = static_cast<T>(static_cast<float>(sum) +
                         static_cast<float>(of_node((owner / g + hop) % nodes)));
  }
  return sum;
}

Receive receive_for(const Communicator& comm, const RingSetup& setup, int64_t shard, DType dtype) {
  return Receive(
      reduce_scatter_receive_bytes(comm.size(), shard, dtype, Transport::kMpi, setup.algorithm));
}

template <class T>
constexpr DType kDType = std::is_same_v<T, float>      ? DType::kF32
                         : std::is_same_v<T, BFloat16> ? DType::kBF16
                                                       : DType::kF16;

template <class T>
void check_reduce_scatter(Communicator& comm, const RingSetup& setup, int64_t shard,
                          bool in_place) {
  const DType dtype = kDType<T>;
  const int64_t begin = comm.rank() * shard;
  std::vector<T> whole(static_cast<size_t>(shard * comm.size()));
  for (size_t i = 0; i < whole.size(); ++i) {
    whole[i] = value<T>(comm.rank(), static_cast<int64_t>(i));
  }
  std::vector<T> part(static_cast<size_t>(shard), T(-1));
  T* out = in_place ? whole.data() + begin : part.data();
  Receive receive = receive_for(comm, setup, shard, dtype);
  comm.wait(comm.reduce_scatter(whole.data(), out, shard, dtype, receive.data(), setup.algorithm));
  EXPECT_TRUE(receive.guard_intact());
  for (int64_t i = 0; i < shard; ++i) {
    ASSERT_EQ(static_cast<float>(out[i]),
              static_cast<float>(ring_sum<T>(comm, setup, comm.rank(), begin + i)))
        << "element " << i << " of " << shard << ", in place " << in_place;
  }
  for (int64_t i = 0; i < static_cast<int64_t>(whole.size()); ++i) {
    if (in_place && i >= begin && i < begin + shard) continue;
    ASSERT_EQ(static_cast<float>(whole[static_cast<size_t>(i)]),
              static_cast<float>(value<T>(comm.rank(), i)));
  }
}

// One chunk, several, several blocks of them with a rest.
constexpr int64_t kOneChunk = 1000, kChunks = 20011, kBlocks = (int64_t{5} << 17) + 77;

TEST(Ring, ReduceScatterSumsInItsOrder) {
  for_each_setup([](Communicator& comm, const RingSetup& setup) {
    for (const int64_t shard : {int64_t{1}, int64_t{64}, kOneChunk, kChunks}) {
      for (const bool in_place : {false, true}) {
        check_reduce_scatter<float>(comm, setup, shard, in_place);
        check_reduce_scatter<_Float16>(comm, setup, shard, in_place);
        check_reduce_scatter<BFloat16>(comm, setup, shard, in_place);
      }
    }
    check_reduce_scatter<float>(comm, setup, kBlocks, true);
  });
}

TEST(Ring, AllGather) {
  for_each_setup([](Communicator& comm, const RingSetup& setup) {
    for (const int64_t shard : {int64_t{1}, kOneChunk, kChunks, kBlocks}) {
      for (const bool in_place : {false, true}) {
        const auto own = static_cast<size_t>(comm.rank() * shard);
        std::vector<float> whole(static_cast<size_t>(shard * comm.size()), -1.0f);
        std::vector<float> part = spread_values(comm.rank(), shard);
        if (in_place) std::copy(part.begin(), part.end(), whole.begin() + comm.rank() * shard);
        comm.wait(comm.all_gather(in_place ? whole.data() + own : part.data(), whole.data(),
                                  shard * size_of(DType::kF32), setup.algorithm));
        for (int rank = 0; rank < comm.size(); ++rank) {
          for (int64_t i = 0; i < shard; ++i) {
            ASSERT_EQ(whole[static_cast<size_t>(rank * shard + i)], spread_value(rank, i))
                << "rank " << rank << " element " << i;
          }
        }
      }
    }
  });
}

// Calls of all kinds behind each other; what one writes the next reads, and ranks come at any time.
TEST(Ring, QueuedCallsOfSeveralAlgorithms) {
  for_each_setup([](Communicator& comm, const RingSetup& setup) {
    constexpr int64_t kShard = 30000;
    const int64_t begin = comm.rank() * kShard;
    std::vector<float> whole(static_cast<size_t>(kShard * comm.size()));
    for (size_t i = 0; i < whole.size(); ++i) {
      whole[i] = value<float>(comm.rank(), static_cast<int64_t>(i));
    }
    std::vector<float> ring(whole.size(), -1.0f), direct(whole.size(), -1.0f);
    double scalar = comm.rank() + 1.0;
    Receive receive = receive_for(comm, setup, kShard, DType::kF32);
    Receive scalar_receive(all_reduce_receive_bytes(comm.size(), 1));
    comm.reduce_scatter(whole.data(), whole.data() + begin, kShard, DType::kF32, receive.data(),
                        setup.algorithm);
    comm.all_gather(whole.data() + begin, ring.data(), kShard * size_of(DType::kF32),
                    setup.algorithm);
    comm.all_reduce(&scalar, 1, scalar_receive.data());
    comm.wait(comm.all_gather(whole.data() + begin, direct.data(), kShard * size_of(DType::kF32)));
    EXPECT_EQ(scalar, comm.size() * (comm.size() + 1) / 2.0);
    EXPECT_EQ(ring, direct);
    for (int rank = 0; rank < comm.size(); ++rank) {
      for (int64_t i = rank * kShard; i < (rank + 1) * kShard; ++i) {
        ASSERT_EQ(ring[static_cast<size_t>(i)], ring_sum<float>(comm, setup, rank, i));
      }
    }
  });
}

// Between nodes only what no algorithm can save: each node's ranks together send (M - 1) of M
// nodes' parts to the next node. In all a rank sends what it would pairwise.
TEST(Ring, SendsWhatTheFormulasSay) {
  for_each_setup([](Communicator& comm, const RingSetup& setup) {
    constexpr int64_t kShard = 50000, kBytes = kShard * 4;
    std::vector<float> whole(static_cast<size_t>(kShard * comm.size()), 1.0f);
    float* const own = whole.data() + comm.rank() * kShard;
    Receive receive = receive_for(comm, setup, kShard, DType::kF32);
    comm.barrier();
    const Ledger before = comm.ledger();
    reset_pmpi_counts();
    comm.wait(comm.reduce_scatter(whole.data(), own, kShard, DType::kF32, receive.data(),
                                  setup.algorithm));
    comm.wait(comm.all_gather(own, whole.data(), kBytes, setup.algorithm));
    const PmpiCounts seen = pmpi_counts();
    const int64_t nodes = comm.size() / setup.ranks_a_node;
    EXPECT_EQ(seen.bytes, 2 * (nodes - 1) * kBytes);
    EXPECT_EQ(seen.other_calls, 0);
    Ledger total = before;
    total[Collective::kReduceScatter].calls += 1;
    total[Collective::kReduceScatter].payload_bytes += comm.size() * kBytes;
    total[Collective::kReduceScatter].wire_bytes += reduce_scatter_wire_bytes(comm.size(), kBytes);
    total[Collective::kAllGather].calls += 1;
    total[Collective::kAllGather].payload_bytes += comm.size() * kBytes;
    total[Collective::kAllGather].wire_bytes += all_gather_wire_bytes(comm.size(), kBytes);
    EXPECT_EQ(comm.ledger(), total);
  });
}

// What the thread is for: a transfer ends while the caller does something else.
TEST(Ring, TheThreadMovesTransfersByItself) {
  if (session() == nullptr || session()->size() == 1) GTEST_SKIP() << "for several ranks";
  MpiCommunicator comm(*session(), {.timeout_seconds = 60, .progress_thread = true});
  for (const Algorithm algorithm : {Algorithm::kRing, Algorithm::kPairwise}) {
    constexpr int64_t kShard = 200000;
    std::vector<double> whole(static_cast<size_t>(kShard * comm.size()), -1.0);
    const std::vector<double> mine(static_cast<size_t>(kShard), comm.rank());
    comm.barrier();
    const Ticket ticket =
        comm.all_gather(mine.data(), whole.data(), kShard * size_of(DType::kF64), algorithm);
    const std::atomic_ref<double> last(
        whole[static_cast<size_t>(((comm.rank() + 1) % comm.size() + 1) * kShard - 1)]);
    while (last.load() < 0.0) std::this_thread::yield();  // no call of the communicator
    comm.wait(ticket);
  }
}

TEST(Ring, RefusesNodesThatAreNotWhole) {
  if (session() == nullptr || session()->size() == 1) GTEST_SKIP() << "for several ranks";
  EXPECT_THROW(MpiCommunicator(*session(), {.ranks_a_node = session()->size() + 1}), InternalError);
}

TEST(RingOrder, GoesBlockByBlock) {
  const RingOrder order(600, 100, 2);  // six chunks of two hops: a block of four, one of two
  ASSERT_EQ(order.size(), 12);
  const std::vector<RingOrder::Item> expected = {{0, 0}, {1, 0}, {2, 0}, {3, 0}, {0, 1}, {1, 1},
                                                 {2, 1}, {3, 1}, {4, 0}, {5, 0}, {4, 1}, {5, 1}};
  for (int64_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(order.at(i), expected[static_cast<size_t>(i)]) << i;
    EXPECT_EQ(order.index_of(order.at(i)), i);
  }
  const RingOrder rest(650, 100, 3);
  EXPECT_EQ(rest.size(), 21);
  EXPECT_EQ(rest.begin(6), 600);
  EXPECT_EQ(rest.count(6), 50);
  EXPECT_EQ(rest.at(20), (RingOrder::Item{6, 2}));
  EXPECT_EQ(RingOrder(0, 100, 3).size(), 0);
}

TEST(RingOrder, ChunksInNumbers) {
  EXPECT_EQ(ring_chunk(1000, 4), 1000);                // below the smallest
  EXPECT_EQ(ring_chunk(int64_t{1} << 20, 4), 131072);  // 512 KiB
  EXPECT_EQ(ring_chunk(100000, 4), 24960);             // a quarter, in whole lines of 64
  EXPECT_EQ(
      reduce_scatter_receive_bytes(8, 1 << 20, DType::kF32, Transport::kMpi, Algorithm::kRing),
      6 * 131072 * 4);
  EXPECT_EQ(
      reduce_scatter_receive_bytes(8, 1 << 20, DType::kF32, Transport::kMpi, Algorithm::kTwoLevel),
      8 * 131072 * 4);
}

}  // namespace
}  // namespace memwall::test
