// More ranks than cores, and more ranks than exchanges in flight.
#include <gtest/gtest.h>

#include "comm/mpi/mpi_communicator.h"
#include "comm/shared/shared_communicator.h"
#include "tests/comm/comm_fixture.h"
#include "tests/support/mpi_world.h"

namespace memwall::test {
namespace {

void check_round(Communicator& comm, int64_t shard) {
  const int64_t begin = comm.rank() * shard;
  std::vector<float> whole = spread_values(comm.rank(), shard * comm.size());
  Receive receive = scatter_receive(comm, shard, DType::kF32);
  comm.reduce_scatter(whole.data(), whole.data() + begin, shard, DType::kF32, receive.data());
  comm.wait(comm.all_gather(whole.data() + begin, whole.data(), shard * size_of(DType::kF32)));
  for (size_t i = 0; i < whole.size(); ++i) {
    ASSERT_EQ(whole[i], spread_sum(comm.size(), static_cast<int64_t>(i))) << "element " << i;
  }
}

TEST(Oversubscribed, ManyRoundsWithFewExchangesInFlight) {
  ASSERT_NE(session(), nullptr);
  for (const int in_flight : {1, 2, 3, 8}) {
    MpiCommunicator comm(*session(), {.timeout_seconds = 60, .exchanges_in_flight = in_flight});
    for (const int64_t shard : {1, 1000, 2000, 50000}) check_round(comm, shard);
  }
}

TEST(Oversubscribed, ManyRoundsThroughWindows) {
  ASSERT_NE(session(), nullptr);
  for (const int64_t window_bytes : {int64_t{32} << 10, int64_t{100} << 10, kWindowBytes}) {
    SharedCommunicator comm(*session(),
                            {.timeout_seconds = 60, .windows = {.window_bytes = window_bytes}});
    for (const int64_t shard : {1, 1000, 2000, 20000}) check_round(comm, shard);
  }
  check_round(shared_world(), 300001);  // more than its window
}

void check_small_calls(Communicator& comm) {
  std::vector<double> values(200, 1.0);
  std::vector<Receive> receives;
  for (size_t i = 0; i < values.size(); ++i) {
    receives.emplace_back(all_reduce_receive_bytes(comm.size(), 1));
  }
  Ticket last = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    last = comm.all_reduce(&values[i], 1, receives[i].data());
  }
  comm.wait(last);
  EXPECT_EQ(values, std::vector<double>(200, comm.size()));
}

TEST(Oversubscribed, ManySmallCalls) {
  check_small_calls(world());
  check_small_calls(shared_world());
}

}  // namespace
}  // namespace memwall::test
