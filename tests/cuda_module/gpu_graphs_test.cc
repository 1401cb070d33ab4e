// Graphs and marks of a GPU: of a real one where the machine has one, else of an imitated one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/exec/gpu/module.h"

namespace memwall {
namespace {

constexpr auto kCompute = Device::Queue::kCompute;
constexpr auto kOther = Device::Queue::kCommunication;
constexpr int64_t kBytes = 256;

Device& the_device() {
  // Never closed: CUDA may be gone by then.
  static Device& device = []() -> Device& {
    const bool real = std::filesystem::exists("/dev/nvidiactl");
    if (!real) setenv("MEMWALL_CUDA_MODULE", MEMWALL_IMITATED_MODULE, 0);
    return *open_gpu_module().open(0).release();
  }();
  return device;
}

class GpuGraphs : public testing::Test {
 protected:
  GpuGraphs() : memory_(device.allocate(4 * kBytes)) {
    device.fill(kCompute, memory_, 0, 4 * kBytes);
  }
  ~GpuGraphs() override {
    graphs.forget_all();
    device.finish(kCompute);
    device.release(memory_);
  }

  std::byte* at(int64_t block) const { return memory_ + block * kBytes; }
  uint8_t value_of(int64_t block) const {
    std::vector<uint8_t> bytes(kBytes);
    device.finish(kCompute);
    device.copy(kCompute, bytes.data(), at(block), kBytes);
    device.finish(kCompute);
    return bytes.back();
  }

  struct Times {
    Device::Mark begin, forked, joined, end;
  };
  // Block 0 to 1; 1 to 2 on the other queue; 2 to 3. `queues`: else a launch does it.
  Times walk(bool queues) {
    Times times{};
    times.begin = device.time(kCompute);
    if (queues) device.copy(kCompute, at(1), at(0), kBytes);
    times.forked = device.mark(kCompute);
    device.follow(kOther, times.forked);
    if (queues) device.copy(kOther, at(2), at(1), kBytes);
    times.joined = device.mark(kOther);
    device.follow(kCompute, times.joined);
    if (queues) device.copy(kCompute, at(3), at(2), kBytes);
    times.end = device.time(kCompute);
    return times;
  }

  Device& device = the_device();
  DeviceGraphs& graphs = *device.graphs();

 private:
  std::byte* memory_;
};

TEST_F(GpuGraphs, LaunchesAcrossQueuesKeepTheirTimes) {
  device.fill(kCompute, at(0), 1, kBytes);
  graphs.begin_capture();
  Times last = walk(true);
  const DeviceGraphs::Graph graph = graphs.end_capture();
  EXPECT_EQ(value_of(3), 1);
  EXPECT_GT(graphs.bytes(), -1);
  for (uint8_t value = 2; value < 6; ++value) {
    device.fill(kCompute, at(0), value, kBytes);
    graphs.begin_launch(graph);
    EXPECT_TRUE(graphs.launching());
    const Times times = walk(false);
    EXPECT_TRUE(graphs.end_launch());
    EXPECT_EQ(value_of(3), value);
    EXPECT_TRUE(device.reached(times.forked) && device.reached(times.joined));
    EXPECT_GE(device.seconds_between(times.begin, times.end), 0.0);
    EXPECT_GE(device.seconds_between(last.end, times.begin), 0.0);
    last = times;
  }
}

// Two launches follow each other before anything is read: each has its own times.
TEST_F(GpuGraphs, LaunchesMayBeUnderWayTogether) {
  graphs.begin_capture();
  walk(true);
  const DeviceGraphs::Graph graph = graphs.end_capture();
  std::vector<Times> all;
  for (int i = 0; i < 3; ++i) {
    graphs.begin_launch(graph);
    all.push_back(walk(false));
    EXPECT_TRUE(graphs.end_launch());
  }
  device.finish(kCompute);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_GE(device.seconds_between(all[i].begin, all[i].end), 0.0);
    if (i > 0) {
      EXPECT_GE(device.seconds_between(all[i - 1].end, all[i].begin), 0.0);
    }
  }
}

// More marks than the device remembers.
TEST_F(GpuGraphs, ManyLaunches) {
  graphs.begin_capture();
  walk(true);
  const DeviceGraphs::Graph graph = graphs.end_capture();
  for (int i = 0; i < 12'000; ++i) {
    graphs.begin_launch(graph);
    walk(false);
    ASSERT_TRUE(graphs.end_launch());
  }
  device.fill(kCompute, at(0), 9, kBytes);
  graphs.begin_launch(graph);
  const Times times = walk(false);
  EXPECT_TRUE(graphs.end_launch());
  EXPECT_EQ(value_of(3), 9);
  EXPECT_GE(device.seconds_between(times.begin, times.end), 0.0);
  // A second capture in a ring that is full.
  graphs.begin_capture();
  walk(true);
  graphs.end_capture();
  EXPECT_EQ(value_of(3), 9);
}

TEST_F(GpuGraphs, OtherMarksThanCapturedAreNoticed) {
  graphs.begin_capture();
  walk(true);
  const DeviceGraphs::Graph graph = graphs.end_capture();
  graphs.begin_launch(graph);
  device.time(kCompute);
  EXPECT_FALSE(graphs.end_launch());
  graphs.begin_launch(graph);
  walk(false);
  EXPECT_THROW(device.time(kCompute), InternalError);
  EXPECT_TRUE(graphs.end_launch());
}

TEST_F(GpuGraphs, WhatIsNotJoinedIsAnError) {
  graphs.begin_capture();
  device.follow(kOther, device.mark(kCompute));
  device.fill(kOther, at(2), 7, kBytes);
  EXPECT_THROW(graphs.end_capture(), Error);
  graphs.abandon_capture();
  EXPECT_EQ(value_of(2), 0);
}

TEST_F(GpuGraphs, AnAbandonedCaptureLeavesNothing) {
  device.fill(kCompute, at(0), 5, kBytes);
  graphs.begin_capture();
  walk(true);
  graphs.abandon_capture();
  EXPECT_EQ(value_of(3), 0);
  walk(true);
  EXPECT_EQ(value_of(3), 5);
}

TEST_F(GpuGraphs, AForgottenGraphIsNotLaunched) {
  graphs.begin_capture();
  walk(true);
  const DeviceGraphs::Graph graph = graphs.end_capture();
  graphs.forget(graph);
  graphs.forget(graph);
  EXPECT_THROW(graphs.begin_launch(graph), InternalError);
}

}  // namespace
}  // namespace memwall
