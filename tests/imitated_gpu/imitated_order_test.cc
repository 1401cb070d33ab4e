// The order in which the imitated GPUs run work: what the program asked for, and no more.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/imitated_gpu/test_device.h"
#include "tests/imitated_gpu/test_kernels.h"

namespace memwall::imitated::test {
namespace {

constexpr size_t kBytes = sizeof(float);

TEST(ImitatedOrder, AKernelRuns) {
  for (const OrderCase& order : all_orders()) {
    use(order);
    const TestStream stream;
    const std::vector<float> values(300, 5.0f);
    const DeviceArray<float> from(values), to(300);
    EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 300, stream));
    stream.synchronize();
    EXPECT_EQ(to.read(), std::vector<float>(300, 11.0f));
  }
}

TEST(ImitatedOrder, LateRunsNothingUnasked) {
  use({Order::kLate, 0});
  const TestStream stream;
  const DeviceArray<float> from({1.0f}), to(1);
  EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 1, stream));
  EXPECT_TRUE(std::isnan(to.read()[0]));
  stream.synchronize();
  EXPECT_EQ(to.read()[0], 3.0f);
}

TEST(ImitatedOrder, EarlyRunsAtOnce) {
  use({Order::kEarly, 0});
  const TestStream stream;
  const DeviceArray<float> from({1.0f}), to(1);
  EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 1, stream));
  EXPECT_EQ(to.read()[0], 3.0f);
}

// A consumer on another stream than its producer; what it gets.
float consume(bool waits) {
  const TestStream producer, consumer;
  const TestEvent produced;
  const DeviceArray<float> from({1.0f}), between(1), to(1);
  EXPECT_CUDA(launch_affine(between.get(), from.get(), 2.0, 1, producer));
  EXPECT_CUDA(cudaEventRecord(produced, producer));
  if (waits) {
    EXPECT_CUDA(cudaStreamWaitEvent(consumer, produced, 0));
  }
  EXPECT_CUDA(launch_affine(to.get(), between.get(), 10.0, 1, consumer));
  consumer.synchronize();
  return to.read()[0];
}

TEST(ImitatedOrder, AWaitIsKept) {
  for (const OrderCase& order : all_orders()) {
    use(order);
    EXPECT_EQ(consume(true), 31.0f);
  }
}

TEST(ImitatedOrder, AMissingWaitShows) {
  use({Order::kLate, 0});
  EXPECT_TRUE(std::isnan(consume(false)));
  int wrong = 0;
  for (const OrderCase& order : all_orders()) {
    use(order);
    if (order.order == Order::kRandom && std::isnan(consume(false))) ++wrong;
  }
  EXPECT_GT(wrong, 0);
}

// A buffer is written again while another stream still reads it.
float overwrite_early(bool waits) {
  const TestStream reader, writer;
  const TestEvent read;
  const DeviceArray<float> buffer({1.0f}), other({7.0f}), to(1);
  EXPECT_CUDA(launch_affine(to.get(), buffer.get(), 2.0, 1, reader));
  EXPECT_CUDA(cudaEventRecord(read, reader));
  if (waits) {
    EXPECT_CUDA(cudaStreamWaitEvent(writer, read, 0));
  }
  EXPECT_CUDA(launch_affine(buffer.get(), other.get(), 1.0, 1, writer));
  EXPECT_CUDA(cudaDeviceSynchronize());
  return to.read()[0];
}

TEST(ImitatedOrder, ABufferWrittenTooEarlyShows) {
  for (const OrderCase& order : all_orders()) {
    use(order);
    EXPECT_EQ(overwrite_early(true), 3.0f);
  }
  use({Order::kLate, 0});
  EXPECT_EQ(overwrite_early(false), 17.0f);
}

TEST(ImitatedOrder, AWaitIsForTheRecordBeforeIt) {
  use({Order::kLate, 0});
  const TestStream first, second;
  const TestEvent event;
  const DeviceArray<float> from({1.0f}), a(1), b(1);
  EXPECT_CUDA(launch_affine(a.get(), from.get(), 2.0, 1, first));
  EXPECT_CUDA(cudaEventRecord(event, first));
  EXPECT_CUDA(cudaStreamWaitEvent(second, event, 0));
  EXPECT_CUDA(launch_affine(b.get(), from.get(), 2.0, 1, first));
  EXPECT_CUDA(cudaEventRecord(event, first));
  second.synchronize();
  EXPECT_EQ(a.read()[0], 3.0f);
  EXPECT_TRUE(std::isnan(b.read()[0]));
  EXPECT_CUDA(cudaEventSynchronize(event));
  EXPECT_EQ(b.read()[0], 3.0f);
}

TEST(ImitatedOrder, PollingMakesProgress) {
  use({Order::kLate, 0});
  const TestStream stream, other;
  const TestEvent event;
  const DeviceArray<float> from({1.0f}), to(1), unasked(1);
  EXPECT_CUDA(launch_affine(unasked.get(), from.get(), 2.0, 1, other));
  for (int i = 0; i < 3; ++i) {
    EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 1, stream));
  }
  EXPECT_CUDA(cudaEventRecord(event, stream));
  int polls = 1;
  while (cudaEventQuery(event) == cudaErrorNotReady) ++polls;
  EXPECT_EQ(polls, 4);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_TRUE(std::isnan(unasked.read()[0]));
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
}

TEST(ImitatedOrder, PinnedMemoryIsReadWhenTheCopyRuns) {
  for (const Order order : {Order::kLate, Order::kEarly}) {
    use({order, 0});
    const TestStream stream;
    const PinnedFloats pinned({1.0f});
    float pageable = 1.0f;
    const DeviceArray<float> a(1), b(1);
    EXPECT_CUDA(cudaMemcpyAsync(a.get(), pinned.get(), kBytes, cudaMemcpyHostToDevice, stream));
    EXPECT_CUDA(cudaMemcpyAsync(b.get(), &pageable, kBytes, cudaMemcpyHostToDevice, stream));
    pinned[0] = pageable = 2.0f;
    stream.synchronize();
    EXPECT_EQ(a.read()[0], order == Order::kLate ? 2.0f : 1.0f);
    EXPECT_EQ(b.read()[0], 1.0f);
  }
}

TEST(ImitatedOrder, PinnedMemoryIsWrittenWhenTheCopyRuns) {
  use({Order::kLate, 0});
  const TestStream stream;
  const PinnedFloats pinned({0.0f});
  const DeviceArray<float> from({4.0f});
  float pageable = 0.0f;
  EXPECT_CUDA(cudaMemcpyAsync(pinned.get(), from.get(), kBytes, cudaMemcpyDeviceToHost, stream));
  EXPECT_EQ(pinned[0], 0.0f);
  EXPECT_CUDA(cudaMemcpyAsync(&pageable, from.get(), kBytes, cudaMemcpyDeviceToHost, stream));
  EXPECT_EQ(pinned[0], 4.0f);  // the copy to pageable memory came after it
  EXPECT_EQ(pageable, 4.0f);
}

TEST(ImitatedOrder, AHostFunctionRunsInItsTurnAndMayNotCallTheLibrary) {
  use({Order::kLate, 0});
  static cudaError_t inside = cudaSuccess;
  const TestStream stream;
  EXPECT_CUDA(cudaLaunchHostFunc(
      stream, [](void* data) { inside = cudaMemset(data, 0, kBytes); }, nullptr));
  EXPECT_EQ(inside, cudaSuccess);
  stream.synchronize();
  EXPECT_EQ(inside, cudaErrorNotPermitted);
}

TEST(ImitatedOrder, WorkOfADestroyedStreamStillRuns) {
  use({Order::kLate, 0});
  const DeviceArray<float> from({1.0f}), to(1);
  const TestEvent event;
  {
    const TestStream stream;
    EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 1, stream));
    EXPECT_CUDA(cudaEventRecord(event, stream));
  }
  EXPECT_CUDA(cudaEventSynchronize(event));
  EXPECT_EQ(to.read()[0], 3.0f);
}

}  // namespace
}  // namespace memwall::imitated::test
