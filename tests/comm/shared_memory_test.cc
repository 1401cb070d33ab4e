// What is particular to shared windows: the same bits as over MPI, any order of waits, calls that
// differ between ranks, the memory they take, and its refusal.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>

#include "comm/agree.h"
#include "comm/make_communicator.h"
#include "comm/mpi/mpi_communicator.h"
#include "comm/shared/shared_communicator.h"
#include "tests/comm/comm_fixture.h"
#include "tests/support/mpi_world.h"

namespace memwall::test {
namespace {

constexpr double kTimeoutSeconds = 60.0;

// Finite numbers of `dtype` over many magnitudes, as bytes.
std::vector<std::byte> random_elements(int64_t count, DType dtype, std::mt19937& draw) {
  std::vector<std::byte> bytes(static_cast<size_t>(count * size_of(dtype)));
  const auto put = [&](int64_t i, auto value) {
    std::memcpy(bytes.data() + i * size_of(dtype), &value, sizeof(value));
  };
  for (int64_t i = 0; i < count; ++i) {
    const double value =
        std::ldexp(static_cast<double>(draw()) * 0x1p-32 - 0.5, static_cast<int>(draw() % 20) - 10);
    const auto single = static_cast<float>(value);
    uint32_t bits = 0;
    std::memcpy(&bits, &single, sizeof(bits));
    if (dtype == DType::kF16) put(i, static_cast<_Float16>(single));
    if (dtype == DType::kBF16) put(i, static_cast<uint16_t>(bits >> 16));
    if (dtype == DType::kF32) put(i, single);
    if (dtype == DType::kF64) put(i, value);
  }
  return bytes;
}

// Scatters sums of `shard` elements a rank and gathers them again.
std::vector<std::byte> scattered_and_gathered(Communicator& comm, std::vector<std::byte> whole,
                                              int64_t shard, DType dtype) {
  const int64_t bytes = shard * size_of(dtype);
  std::byte* const own = whole.data() + comm.rank() * bytes;
  Receive receive = scatter_receive(comm, shard, dtype);
  comm.reduce_scatter(whole.data(), own, shard, dtype, receive.data());
  comm.wait(comm.all_gather(own, whole.data(), bytes));
  return whole;
}

TEST(SharedMemory, TheSameBitsAsOverMpi) {
  std::mt19937 draw(static_cast<uint32_t>(world().rank()));
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32, DType::kF64}) {
    for (const int64_t shard : {1, 17, 4099, 700001}) {
      const std::vector<std::byte> whole = random_elements(shard * world().size(), dtype, draw);
      ASSERT_EQ(scattered_and_gathered(shared_world(), whole, shard, dtype),
                scattered_and_gathered(world(), whole, shard, dtype))
          << name_of(dtype) << ", " << shard;
    }
  }
}

struct Queued {
  bool gathers;
  int64_t shard;
  std::vector<float> whole;
  Ticket ticket;
};

void check_result(const Queued& call, int rank, int ranks) {
  for (int64_t i = 0; i < ranks * call.shard; ++i) {
    const auto owner = static_cast<int>(i / call.shard);
    if (!call.gathers && owner != rank) continue;
    const float due = call.gathers ? spread_value(owner, i) : spread_sum(ranks, i);
    ASSERT_EQ(call.whole[static_cast<size_t>(i)], due) << "element " << i;
  }
}

// Every rank queues the same calls, but looks after them and waits for them as it likes.
TEST(SharedMemory, AnyOrderOfWaits) {
  SharedCommunicator shared(
      *session(), {.timeout_seconds = kTimeoutSeconds, .windows = {.window_bytes = 50000}});
  Communicator& comm = shared;
  const int rank = comm.rank(), ranks = comm.size();
  std::mt19937 common(5), own(static_cast<uint32_t>(rank));
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<Queued> calls(40);
    for (Queued& call : calls) {
      call.gathers = common() % 2 == 0;
      call.shard = 1 + common() % 9000;
      call.whole = spread_values(rank, call.shard * ranks);
      float* const part = call.whole.data() + rank * call.shard;
      call.ticket =
          call.gathers
              ? comm.all_gather(part, call.whole.data(), call.shard * size_of(DType::kF32))
              : comm.reduce_scatter(call.whole.data(), part, call.shard, DType::kF32, nullptr);
      if (own() % 3 == 0) comm.progress();
      if (own() % 5 == 0) comm.wait(1 + own() % call.ticket);
    }
    std::shuffle(calls.begin(), calls.end(), own);
    for (const Queued& call : calls) {
      comm.wait(call.ticket);
      check_result(call, rank, ranks);
    }
  }
}

TEST(SharedMemory, DifferentCallsAreFound) {
  const bool odd = world().rank() == 0;
  {
    SharedCommunicator shared(*session(), {.timeout_seconds = kTimeoutSeconds});
    Communicator& comm = shared;
    std::vector<double> whole(static_cast<size_t>(2 * comm.size()));
    const std::vector<double> mine(2);
    const int64_t bytes = odd ? 8 : 16;
    EXPECT_THROW(comm.wait(comm.all_gather(mine.data(), whole.data(), bytes)), InternalError);
  }
  {
    SharedCommunicator shared(*session(), {.timeout_seconds = kTimeoutSeconds});
    Communicator& comm = shared;
    std::vector<double> whole(static_cast<size_t>(comm.size()), 1.0);
    const double mine = 1.0;
    EXPECT_THROW(comm.wait(odd ? comm.all_gather(&mine, whole.data(), sizeof(mine))
                               : comm.all_reduce(whole.data(), 1, nullptr)),
                 InternalError);
  }
}

int64_t resident_shared_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kib = 0;
  while (status >> word) {
    if (word == "RssShmem:") status >> kib;
  }
  return kib << 10;
}

// All windows are resident from the start, and are no more than the formula says.
TEST(SharedMemory, WindowsTakeWhatThePlanSays) {
  constexpr int64_t kPages = int64_t{64} << 10;  // Open MPI's own flags, alignment
  const int64_t before = resident_shared_bytes();
  SharedCommunicator comm(*session(), {.timeout_seconds = kTimeoutSeconds});
  const int64_t planned = comm.size() * window_bytes_per_rank(comm.size());
  EXPECT_NEAR(static_cast<double>(resident_shared_bytes() - before), static_cast<double>(planned),
              static_cast<double>(kPages));
}

TEST(SharedMemory, TooLittleIsRefusedOnAllRanks) {
  const int64_t needed = world().size() * kWindowBytes;
  SharedOptions options{.timeout_seconds = kTimeoutSeconds};
  options.windows.space = [&] { return SpaceForWindows{needed - 1, "/dev/small"}; };
  std::string message;
  try {
    SharedCommunicator comm(*session(), options);
  } catch (const SharedError& error) {
    message = error.what();
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
  }
  const std::string mib = std::to_string(needed >> 20) + ".0 MiB";
  EXPECT_NE(message.find("the windows of " + std::to_string(world().size()) + " ranks need " + mib),
            std::string::npos)
      << message;
  EXPECT_NE(message.find("/dev/small has " + mib + " free"), std::string::npos) << message;
  for (const std::string& theirs : world().gather_text(message)) EXPECT_EQ(theirs, message);

  options.windows.space = [&] { return SpaceForWindows{needed, "/dev/small"}; };
  SharedCommunicator comm(*session(), options);
  comm.barrier();
}

TEST(SharedMemory, TheTransportIsTheOneAskedFor) {
  const auto made = [](auto... fabric) {
    return make_communicator(session(), kTimeoutSeconds, fabric...);
  };
  EXPECT_NE(dynamic_cast<MpiCommunicator*>(made().get()), nullptr);
  EXPECT_NE(dynamic_cast<MpiCommunicator*>(made(Fabric{}).get()), nullptr);
  EXPECT_NE(dynamic_cast<SharedCommunicator*>(
                made(Fabric{Transport::kSharedMemory, world().size()}).get()),
            nullptr);
}

}  // namespace
}  // namespace memwall::test
