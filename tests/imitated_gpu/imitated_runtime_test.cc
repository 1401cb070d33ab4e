// What the imitated CUDA runtime refuses, captures, counts, and breaks on request.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tests/imitated_gpu/counts.h"
#include "tests/imitated_gpu/test_device.h"
#include "tests/imitated_gpu/test_kernels.h"

namespace memwall::imitated::test {
namespace {

TEST(ImitatedRuntime, ACopyOutsideItsAllocationIsRefused) {
  const TestStream stream;
  const DeviceArray<float> array(8);
  const PinnedFloats pinned(std::vector<float>(8));
  const auto copy = [&](float* to, const float* from, size_t count, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, count * sizeof(float), kind, stream);
  };
  EXPECT_CUDA(copy(array.get() + 4, pinned.get(), 4, cudaMemcpyHostToDevice));
  EXPECT_EQ(copy(array.get() + 4, pinned.get(), 5, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(array.get(), pinned.get() + 4, 5, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(array.get(), pinned.get(), 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(copy(array.get() + 1, array.get(), 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(array.get(), 0, 9 * sizeof(float), stream), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(ImitatedRuntime, AWrongLaunchIsRefused) {
  const TestStream stream;
  EXPECT_EQ(launch_affine_as(1, 32, 0, nullptr), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(launch_without_binder(stream), cudaErrorInvalidDeviceFunction);
  EXPECT_EQ(launch_affine_as(1, 1025, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_affine_as(0, 32, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_affine_as(dim3(1, 65536), 32, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_affine_as(1, 32, (227 << 10) + 1, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_affine_as(1, 32, 100 << 10, stream), cudaErrorInvalidValue);
  EXPECT_CUDA(allow_shared(100 << 10));
  EXPECT_CUDA(launch_affine_as(1, 32, 100 << 10, stream));
  stream.synchronize();
}

TEST(ImitatedRuntime, AStreamOfAnotherDeviceIsRefused) {
  settings().devices = 2;
  const TestStream stream;
  const TestEvent event;
  EXPECT_CUDA(cudaSetDevice(1));
  EXPECT_EQ(launch_affine_as(1, 32, 0, stream), cudaErrorInvalidResourceHandle);
  const TestStream other;
  EXPECT_EQ(cudaEventRecord(event, other), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_CUDA(cudaSetDevice(0));
  settings().devices = 1;
  cudaGetLastError();
}

TEST(ImitatedRuntime, MemoryIsCountedAndEnds) {
  size_t before = 0, after = 0, total = 0;
  EXPECT_CUDA(cudaMemGetInfo(&before, &total));
  EXPECT_EQ(total, settings().device_bytes);
  EXPECT_EQ(total - before, size_t{300} << 20);
  {
    const DeviceArray<float> array(1 << 20);
    EXPECT_CUDA(cudaMemGetInfo(&after, &total));
    EXPECT_EQ(before - after, size_t{4} << 20);
    EXPECT_TRUE(std::isnan(array.read()[12345]));
  }
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, before + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaFree(&total), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST(ImitatedRuntimeDeathTest, TheHostCannotTouchProtectedMemory) {
  settings().protect = true;
  {
    use({Order::kLate, 0});
    const TestStream stream;
    const DeviceArray<float> from({1.0f}), to(1);
    EXPECT_DEATH(to.get()[0] = 1.0f, "");
    EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 1, stream));
    stream.synchronize();
    EXPECT_EQ(to.read()[0], 3.0f);
    EXPECT_DEATH(to.get()[0] = 1.0f, "");
  }
  settings().protect = false;
}

// A capture launches nothing for the first time.
void load_affine() {
  const TestStream stream;
  const DeviceArray<float> x({1.0f}), y(1);
  EXPECT_CUDA(launch_affine(y.get(), x.get(), 2.0, 1, stream));
  stream.synchronize();
}

struct Instance {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ~Instance() {
    if (exec != nullptr) cudaGraphExecDestroy(exec);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
};

// x = 2 (2 x + 1) + 1, the second half on a stream that forks off and joins again.
TEST(ImitatedGraph, IsReplayed) {
  for (const OrderCase& order : all_orders()) {
    use(order);
    load_affine();
    const TestStream stream, fork;
    const TestEvent forked, joined;
    const DeviceArray<float> x({1.0f}), y(1);
    Instance instance;
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT_CUDA(launch_affine(y.get(), x.get(), 2.0, 1, stream));
    EXPECT_CUDA(cudaEventRecord(forked, stream));
    EXPECT_CUDA(cudaStreamWaitEvent(fork, forked, 0));
    EXPECT_CUDA(launch_affine(x.get(), y.get(), 2.0, 1, fork));
    EXPECT_CUDA(cudaEventRecord(joined, fork));
    EXPECT_CUDA(cudaStreamWaitEvent(stream, joined, 0));
    EXPECT_CUDA(cudaStreamEndCapture(stream, &instance.graph));
    EXPECT_CUDA(cudaGraphInstantiate(&instance.exec, instance.graph, 0));
    stream.synchronize();
    EXPECT_EQ(x.read()[0], 1.0f);
    for (int i = 0; i < 3; ++i) EXPECT_CUDA(cudaGraphLaunch(instance.exec, stream));
    stream.synchronize();
    EXPECT_EQ(x.read()[0], 127.0f);
  }
}

// Launches and their events' times; an event is as before until its turn in the launch comes.
TEST(ImitatedGraph, ExternalEventsAreRecordedByLaunches) {
  use({Order::kLate, 0});
  load_affine();
  const TestStream stream;
  cudaEvent_t events[3] = {};
  for (cudaEvent_t& event : events) EXPECT_CUDA(cudaEventCreate(&event));
  const DeviceArray<float> x({1.0f}), y(1);
  Instance instance;
  EXPECT_EQ(cudaEventRecordWithFlags(events[0], stream, cudaEventRecordExternal),
            cudaErrorInvalidValue);
  cudaGetLastError();
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_CUDA(cudaEventRecordWithFlags(events[0], stream, cudaEventRecordExternal));
  EXPECT_CUDA(launch_affine(y.get(), x.get(), 2.0, 1, stream));
  EXPECT_CUDA(cudaEventRecordWithFlags(events[1], stream, cudaEventRecordExternal));
  EXPECT_CUDA(cudaStreamEndCapture(stream, &instance.graph));
  EXPECT_CUDA(cudaGraphInstantiate(&instance.exec, instance.graph,
                                   cudaGraphInstantiateFlagUseNodePriority));
  size_t count = 0;
  EXPECT_CUDA(cudaGraphGetNodes(instance.graph, nullptr, &count));
  ASSERT_EQ(count, 3u);
  cudaGraphNode_t nodes[3] = {}, last = nullptr;
  EXPECT_CUDA(cudaGraphGetNodes(instance.graph, nodes, &count));
  for (cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
    EXPECT_CUDA(cudaGraphNodeGetType(node, &type));
    cudaEvent_t event = nullptr;
    if (type != cudaGraphNodeTypeEventRecord) {
      EXPECT_EQ(cudaGraphEventRecordNodeGetEvent(node, &event), cudaErrorInvalidValue);
      continue;
    }
    EXPECT_CUDA(cudaGraphEventRecordNodeGetEvent(node, &event));
    if (event == events[1]) last = node;
  }
  EXPECT_CUDA(cudaGraphLaunch(instance.exec, stream));
  EXPECT_CUDA(cudaEventQuery(events[1]));
  float milliseconds = -1.0f;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, events[0], events[1]),
            cudaErrorInvalidResourceHandle);
  EXPECT_CUDA(cudaGraphExecEventRecordNodeSetEvent(instance.exec, last, events[2]));
  EXPECT_CUDA(cudaGraphLaunch(instance.exec, stream));
  stream.synchronize();
  EXPECT_CUDA(cudaEventElapsedTime(&milliseconds, events[0], events[2]));
  EXPECT_GE(milliseconds, 0.0f);
  // The first launch had the event that it was captured with, and the same first one.
  EXPECT_CUDA(cudaEventElapsedTime(&milliseconds, events[1], events[0]));
  EXPECT_GE(milliseconds, 0.0f);
  for (cudaEvent_t event : events) EXPECT_CUDA(cudaEventDestroy(event));
  cudaGetLastError();
}

[[noreturn]] void launch_first_in_a_capture() {
  use({Order::kLate, 0});
  const TestStream stream;
  const DeviceArray<float> x({1.0f}), y(1);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  const cudaError_t first = launch_affine(y.get(), x.get(), 2.0, 1, stream);
  std::_Exit(first == cudaErrorStreamCaptureUnsupported ? 0 : 1);
}

TEST(ImitatedGraphDeathTest, AFirstLaunchWithinACaptureIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a new process, which has launched nothing
  EXPECT_EXIT(launch_first_in_a_capture(), testing::ExitedWithCode(0),
              "launched for the first time");
}

TEST(ImitatedGraph, UnjoinedWorkIsRefused) {
  load_affine();
  const TestStream stream, fork;
  const TestEvent forked;
  const DeviceArray<float> x({1.0f});
  Instance instance;
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_CUDA(cudaEventRecord(forked, stream));
  EXPECT_CUDA(cudaStreamWaitEvent(fork, forked, 0));
  EXPECT_CUDA(launch_affine(x.get(), x.get(), 2.0, 1, fork));
  EXPECT_EQ(cudaStreamEndCapture(stream, &instance.graph), cudaErrorStreamCaptureUnjoined);
  cudaGetLastError();
}

TEST(ImitatedGraph, OutsideWorkAndSynchronisingAreRefused) {
  const TestStream stream, outside;
  const TestEvent event;
  Instance instance;
  EXPECT_CUDA(cudaEventRecord(event, outside));
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaStreamWaitEvent(stream, event, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(cudaStreamEndCapture(stream, &instance.graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &instance.graph), cudaErrorStreamCaptureInvalidated);
  // An event of another capture.
  cudaGraph_t other = nullptr;
  EXPECT_CUDA(cudaStreamBeginCapture(outside, cudaStreamCaptureModeThreadLocal));
  EXPECT_CUDA(cudaEventRecord(event, outside));
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaStreamWaitEvent(stream, event, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(cudaStreamEndCapture(stream, &instance.graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_CUDA(cudaStreamEndCapture(outside, &other));
  EXPECT_CUDA(cudaGraphDestroy(other));
  EXPECT_CUDA(cudaEventRecord(event, outside));
  outside.synchronize();
  // Other events too: the thread must not ask for anything.
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaEventQuery(event), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &instance.graph), cudaErrorStreamCaptureInvalidated);
  void* memory = nullptr;
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &instance.graph), cudaErrorStreamCaptureInvalidated);
  // An event that was recorded in a capture stands for nothing outside.
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  EXPECT_CUDA(cudaEventRecord(event, stream));
  EXPECT_EQ(cudaEventQuery(event), cudaErrorCapturedEvent);
  EXPECT_CUDA(cudaStreamEndCapture(stream, &instance.graph));
  EXPECT_EQ(cudaEventSynchronize(event), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaStreamWaitEvent(outside, event, 0), cudaErrorCapturedEvent);
  cudaGetLastError();
}

TEST(ImitatedFault, OfALaunchShowsAtTheNextSynchroniseAndStays) {
  use({Order::kLate, 0});
  reset_counts();
  settings().fault_name = "cudaLaunchKernel";
  settings().fault_call = 2;
  {
    const TestStream stream;
    const DeviceArray<float> from({1.0f}), to(1);
    EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 1, stream));
    stream.synchronize();
    EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 1, stream));
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
    EXPECT_EQ(launch_affine(to.get(), from.get(), 2.0, 1, stream), cudaErrorIllegalAddress);
    EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    revive();
  }
}

TEST(ImitatedFault, OfACallStaysToo) {
  reset_counts();
  settings().fault_name = "cudaMalloc";
  settings().fault_call = 1;
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorIllegalAddress);
  revive();
  EXPECT_CUDA(cudaMalloc(&pointer, 4));
  EXPECT_CUDA(cudaFree(pointer));
}

TEST(ImitatedCounts, CallsKernelsAndBytes) {
  reset_counts();
  const TestStream stream;
  const DeviceArray<float> from({1.0f, 2.0f}), to(2);
  EXPECT_CUDA(launch_affine(to.get(), from.get(), 2.0, 2, stream));
  stream.synchronize();
  const Counts seen = counts();
  EXPECT_EQ(seen.calls.at("cudaMalloc"), 2u);
  EXPECT_EQ(seen.calls.at("cudaLaunchKernel"), 1u);
  EXPECT_EQ(seen.bytes.at("cudaMemcpyHostToDevice"), 8u);
  ASSERT_EQ(seen.kernels.size(), 1u);
  EXPECT_NE(seen.kernels.begin()->first.find("affine<float>"), std::string::npos);
}

}  // namespace
}  // namespace memwall::imitated::test
