// Collectives of the imitated NCCL, each rank with a device of its own.
#include <gtest/gtest.h>
#include <mpi.h>
#include <nccl.h>

#include <cstring>

#include "tests/imitated_gpu/counts.h"
#include "tests/imitated_gpu/numbers.h"
#include "tests/imitated_gpu/test_device.h"

#define EXPECT_NCCL(call) EXPECT_EQ(call, ncclSuccess) << ncclGetLastError(nullptr)

namespace memwall::imitated::test {
namespace {

int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}
int world_size() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

ncclUniqueId shared_id() {
  ncclUniqueId id;
  EXPECT_NCCL(ncclGetUniqueId(&id));
  MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, MPI_COMM_WORLD);
  return id;
}

class ImitatedNccl : public testing::Test {
 protected:
  void SetUp() override {
    int initialized = 0;
    MPI_Initialized(&initialized);
    if (initialized == 0) GTEST_SKIP() << "runs under mpirun";
    rank = world_rank();
    size = world_size();
    settings().devices = size;
    EXPECT_CUDA(cudaSetDevice(rank));
    EXPECT_NCCL(ncclCommInitRank(&communicator, size, shared_id(), rank));
  }
  void TearDown() override {
    if (communicator != nullptr) {
      EXPECT_NCCL(ncclCommDestroy(communicator));
    }
  }

  int rank = 0, size = 1;
  ncclComm_t communicator = nullptr;
};

std::vector<float> block_of(int rank, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(rank) * 100.0f + float(i);
  return values;
}

TEST_F(ImitatedNccl, AllGatherInEveryOrder) {
  constexpr size_t kCount = 5;
  const auto ranks = static_cast<size_t>(size);
  std::vector<float> expected;
  for (int r = 0; r < size; ++r) {
    for (const float value : block_of(r, kCount)) expected.push_back(value);
  }
  for (const OrderCase& order : all_orders()) {
    use(order);
    const TestStream stream;
    const DeviceArray<float> from(block_of(rank, kCount)), apart(kCount * ranks);
    std::vector<float> own(kCount * ranks, -1.0f);
    const std::vector<float> block = block_of(rank, kCount);
    std::copy(block.begin(), block.end(), own.begin() + rank * static_cast<int>(kCount));
    const DeviceArray<float> in_place(own);
    EXPECT_NCCL(ncclAllGather(from.get(), apart.get(), kCount, ncclFloat, communicator, stream));
    EXPECT_NCCL(ncclAllGather(in_place.get() + static_cast<size_t>(rank) * kCount, in_place.get(),
                              kCount, ncclFloat, communicator, stream));
    stream.synchronize();
    EXPECT_EQ(apart.read(), expected);
    EXPECT_EQ(in_place.read(), expected);
  }
}

// Sums that show where they are rounded (2048 + 1 is 2048 in FP16) and, with three ranks, their
// order (2^24 + 1 + 1 is 2^24 in FP32, 1 + 1 + 2^24 is not).
TEST_F(ImitatedNccl, SumsAreInRankOrderAndRoundedOnce) {
  const auto ranks = static_cast<size_t>(size);
  const TestStream stream;
  std::vector<Half> values(ranks * 2);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<Half>(rank == 0 ? 2048.0f : 1.0f + static_cast<float>(i));
  }
  const DeviceArray<Half> buffer(values);
  const size_t own = static_cast<size_t>(rank) * 2;
  EXPECT_NCCL(ncclReduceScatter(buffer.get(), buffer.get() + own, 2, ncclHalf, ncclSum,
                                communicator, stream));
  const DeviceArray<float> all({rank == 0 ? 0x1p24f : 1.0f, static_cast<float>(rank)});
  EXPECT_NCCL(ncclAllReduce(all.get(), all.get(), 2, ncclFloat, ncclSum, communicator, stream));
  stream.synchronize();
  for (size_t i = own; i < own + 2; ++i) {
    const float sum = 2048.0f + static_cast<float>(size - 1) * (1.0f + static_cast<float>(i));
    EXPECT_EQ(static_cast<float>(buffer.read()[i]), static_cast<float>(static_cast<Half>(sum)));
  }
  EXPECT_EQ(all.read(), (std::vector<float>{0x1p24f, static_cast<float>(size * (size - 1) / 2)}));
}

TEST_F(ImitatedNccl, BroadcastAndRing) {
  const int root = size - 1, next = (rank + 1) % size, previous = (rank + size - 1) % size;
  const TestStream stream;
  const DeviceArray<float> from(block_of(rank, 3)), got(3), received(3), self(3);
  EXPECT_NCCL(ncclBroadcast(from.get(), got.get(), 3, ncclFloat, root, communicator, stream));
  EXPECT_NCCL(ncclGroupStart());
  EXPECT_NCCL(ncclSend(from.get(), 3, ncclFloat, next, communicator, stream));
  EXPECT_NCCL(ncclRecv(self.get(), 3, ncclFloat, rank, communicator, stream));
  EXPECT_NCCL(ncclRecv(received.get(), 3, ncclFloat, previous, communicator, stream));
  EXPECT_NCCL(ncclSend(from.get(), 3, ncclFloat, rank, communicator, stream));
  EXPECT_NCCL(ncclGroupEnd());
  stream.synchronize();
  EXPECT_EQ(got.read(), block_of(root, 3));
  EXPECT_EQ(received.read(), block_of(previous, 3));
  EXPECT_EQ(self.read(), block_of(rank, 3));
}

// Ranks that wait for two streams in different orders still run the collectives in one.
TEST_F(ImitatedNccl, OrderIsTheCommunicators) {
  use({Order::kLate, 0});
  const TestStream first, second;
  const DeviceArray<float> a({1.0f}), b({10.0f});
  EXPECT_NCCL(ncclAllReduce(a.get(), a.get(), 1, ncclFloat, ncclSum, communicator, first));
  EXPECT_NCCL(ncclAllReduce(b.get(), b.get(), 1, ncclFloat, ncclSum, communicator, second));
  (rank == 0 ? first : second).synchronize();
  (rank == 0 ? second : first).synchronize();
  EXPECT_EQ(a.read()[0], static_cast<float>(size));
  EXPECT_EQ(b.read()[0], 10.0f * static_cast<float>(size));
}

TEST_F(ImitatedNccl, BytesAreCounted) {
  reset_counts();
  const TestStream stream;
  const DeviceArray<float> from(8), to(8 * static_cast<size_t>(size));
  EXPECT_NCCL(ncclAllGather(from.get(), to.get(), 8, ncclFloat, communicator, stream));
  stream.synchronize();
  EXPECT_EQ(counts().calls.at("ncclAllGather"), 1u);
  EXPECT_EQ(counts().bytes.at("ncclAllGather"), 32u);
}

// What a graph's launches send is counted with them, and the communicator outlives the graph.
TEST_F(ImitatedNccl, CallsInGraphs) {
  use({Order::kLate, 0});
  constexpr size_t kCount = 4;
  const TestStream stream;
  const DeviceArray<float> from(block_of(rank, kCount));
  const DeviceArray<float> to(kCount * static_cast<size_t>(size));
  reset_counts();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t launchable = nullptr;
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_NCCL(ncclAllGather(from.get(), to.get(), kCount, ncclFloat32, communicator, stream));
  EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_EQ(counts().bytes.count("ncclAllGather"), 0u);
  EXPECT_CUDA(cudaGraphInstantiate(&launchable, graph, 0));
  for (int i = 0; i < 3; ++i) EXPECT_CUDA(cudaGraphLaunch(launchable, stream));
  stream.synchronize();
  for (int peer = 0; peer < size; ++peer) {
    const std::vector<float> expected = block_of(peer, kCount), all = to.read();
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), all.begin() + peer * 4)) << peer;
  }
  const Counts seen = counts();
  EXPECT_EQ(seen.calls.at("ncclAllGather"), 1u);
  EXPECT_EQ(seen.captured.at("ncclAllGather"), 1u);
  EXPECT_EQ(seen.replayed.at("ncclAllGather"), 3u);
  EXPECT_EQ(seen.bytes.at("ncclAllGather"), 3 * kCount * sizeof(float));
  EXPECT_DEATH(ncclCommAbort(communicator), "this never ends");
  EXPECT_CUDA(cudaGraphExecDestroy(launchable));
  EXPECT_CUDA(cudaGraphDestroy(graph));
}

TEST_F(ImitatedNccl, ABufferThatIsTooSmallOrOverlapsIsRefused) {
  const TestStream stream;
  const auto ranks = static_cast<size_t>(size);
  const DeviceArray<float> from(8), to(8 * ranks);
  EXPECT_EQ(ncclAllGather(from.get(), to.get(), 9, ncclFloat, communicator, stream),
            ncclInvalidArgument);
  EXPECT_EQ(ncclAllGather(to.get() + 1, to.get(), 8, ncclFloat, communicator, stream),
            ncclInvalidArgument);
  EXPECT_EQ(ncclAllGather(from.get(), to.get(), 8, ncclFloat, communicator, nullptr),
            ncclInvalidArgument);
}

TEST_F(ImitatedNccl, DifferentCallsAreNoticed) {
  const TestStream stream;
  const DeviceArray<float> values(8);
  const size_t count = rank == 0 ? 8 : 7;
  EXPECT_NCCL(
      ncclAllReduce(values.get(), values.get(), count, ncclFloat, ncclSum, communicator, stream));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  ncclResult_t error = ncclSuccess;
  EXPECT_NCCL(ncclCommGetAsyncError(communicator, &error));
  EXPECT_EQ(error, ncclRemoteError);
  EXPECT_NCCL(ncclCommAbort(communicator));
  communicator = nullptr;
  MPI_Barrier(MPI_COMM_WORLD);
  revive();
}

ncclResult_t settled(ncclComm_t communicator, ncclResult_t status) {
  while (status == ncclInProgress) EXPECT_NCCL(ncclCommGetAsyncError(communicator, &status));
  return status;
}

// The work of a call lies in its stream when the call has ended, and no other is taken before.
TEST_F(ImitatedNccl, ACommunicatorThatDoesNotBlock) {
  use({Order::kLate, 0});
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t second = nullptr;
  EXPECT_EQ(ncclCommInitRankConfig(&second, size, shared_id(), rank, &config), ncclInProgress);
  ASSERT_NE(second, nullptr);
  const TestStream stream;
  const DeviceArray<float> values({1.0f});
  const auto add = [&] {
    return ncclAllReduce(values.get(), values.get(), 1, ncclFloat, ncclSum, second, stream);
  };
  EXPECT_EQ(add(), ncclInvalidArgument);
  EXPECT_NCCL(settled(second, ncclInProgress));
  EXPECT_EQ(add(), ncclInProgress);
  stream.synchronize();
  EXPECT_EQ(values.read()[0], 1.0f);
  EXPECT_EQ(add(), ncclInvalidArgument);
  EXPECT_EQ(ncclCommDestroy(second), ncclInvalidArgument);
  EXPECT_NCCL(settled(second, ncclInProgress));
  stream.synchronize();
  EXPECT_EQ(values.read()[0], static_cast<float>(size));
  EXPECT_EQ(ncclCommDestroy(second), ncclInvalidUsage);
  EXPECT_NCCL(settled(second, ncclCommFinalize(second)));
  EXPECT_NCCL(ncclCommDestroy(second));
}

TEST_F(ImitatedNccl, AStartThatNeverEndsIsAborted) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t second = nullptr;
  settings().never_starts = rank == 0;
  ncclResult_t state = ncclCommInitRankConfig(&second, size, shared_id(), rank, &config);
  for (int i = 0; i < 100; ++i) EXPECT_NCCL(ncclCommGetAsyncError(second, &state));
  EXPECT_EQ(state, ncclInProgress);
  EXPECT_NCCL(ncclCommAbort(second));
  settings().never_starts = false;
}

// Of a call's buffers those that other ranks reach lie alike in their windows.
TEST_F(ImitatedNccl, SymmetricWindows) {
  use({Order::kLate, 0});
  constexpr size_t kCount = 4;
  const auto ranks = static_cast<size_t>(size), self = static_cast<size_t>(rank);
  const size_t bytes = 1 << 16;
  void* memory = nullptr;
  EXPECT_NCCL(ncclMemAlloc(&memory, bytes));
  const TestStream stream;
  auto* const values = static_cast<float*>(memory);
  ncclWindow_t window = nullptr;
  EXPECT_EQ(ncclCommWindowRegister(communicator, memory, rank == 0 ? bytes : bytes / 2, &window,
                                   NCCL_WIN_COLL_SYMMETRIC),
            ncclInvalidArgument);
  const DeviceArray<float> other(kCount);
  EXPECT_EQ(ncclCommWindowRegister(communicator, other.get(), 4096, &window, 0),
            ncclInvalidArgument);
  EXPECT_NCCL(
      ncclCommWindowRegister(communicator, memory, bytes, &window, NCCL_WIN_COLL_SYMMETRIC));
  ASSERT_NE(window, nullptr);
  EXPECT_NCCL(
      ncclAllGather(values + self * kCount, values, kCount, ncclFloat, communicator, stream));
  EXPECT_NCCL(ncclReduceScatter(values, values + self * kCount, kCount, ncclFloat, ncclSum,
                                communicator, stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  const size_t elsewhere = rank == 0 ? 0 : 64;
  EXPECT_NCCL(ncclAllGather(values + 1024, values + 2048 + elsewhere * ranks, kCount, ncclFloat,
                            communicator, stream));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_NCCL(ncclCommAbort(communicator));
  communicator = nullptr;
  EXPECT_NCCL(ncclMemFree(memory));
  MPI_Barrier(MPI_COMM_WORLD);
  revive();
}

TEST_F(ImitatedNccl, TwoRanksOnOneDeviceAreRefused) {
  EXPECT_CUDA(cudaSetDevice(0));
  ncclComm_t second = nullptr;
  EXPECT_EQ(ncclCommInitRank(&second, size, shared_id(), rank), ncclInvalidUsage);
  EXPECT_NE(std::strstr(ncclGetLastError(nullptr), "Duplicate GPU detected"), nullptr);
  EXPECT_CUDA(cudaSetDevice(rank));
}

}  // namespace
}  // namespace memwall::imitated::test
