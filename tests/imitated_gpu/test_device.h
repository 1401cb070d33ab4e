// Short forms for the tests of the imitated GPUs.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "tests/imitated_gpu/process.h"
#include "tests/imitated_gpu/settings.h"

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess)

namespace memwall::imitated::test {

struct OrderCase {
  Order order;
  uint64_t seed;
};
inline std::vector<OrderCase> all_orders() {
  std::vector<OrderCase> orders = {{Order::kLate, 0}, {Order::kEarly, 0}};
  for (uint64_t seed = 1; seed <= 10; ++seed) orders.push_back({Order::kRandom, seed});
  return orders;
}
inline void use(const OrderCase& order) {
  settings().order = order.order;
  settings().seed = order.seed;
}

class TestStream {
 public:
  TestStream() { EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void synchronize() const { EXPECT_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

class TestEvent {
 public:
  TestEvent() { EXPECT_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~TestEvent() { cudaEventDestroy(event_); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

template <class Element>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    EXPECT_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(Element)));
  }
  explicit DeviceArray(const std::vector<Element>& values) : DeviceArray(values.size()) {
    EXPECT_CUDA(cudaMemcpy(data_, values.data(), count_ * sizeof(Element), cudaMemcpyHostToDevice));
  }
  DeviceArray(std::initializer_list<Element> values) : DeviceArray(std::vector<Element>(values)) {}
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  Element* get() const { return data_; }
  // As it is now; waits for no stream that does not block.
  std::vector<Element> read() const {
    std::vector<Element> values(count_);
    EXPECT_CUDA(cudaMemcpy(values.data(), data_, count_ * sizeof(Element), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t count_;
  Element* data_ = nullptr;
};

class PinnedFloats {
 public:
  explicit PinnedFloats(const std::vector<float>& values) {
    EXPECT_CUDA(cudaMallocHost(reinterpret_cast<void**>(&data_), values.size() * sizeof(float)));
    std::copy(values.begin(), values.end(), data_);
  }
  ~PinnedFloats() { cudaFreeHost(data_); }
  PinnedFloats(const PinnedFloats&) = delete;
  PinnedFloats& operator=(const PinnedFloats&) = delete;
  float* get() const { return data_; }
  float& operator[](size_t i) const { return data_[i]; }

 private:
  float* data_ = nullptr;
};

// Brings a lost device back, which CUDA cannot.
inline void revive() {
  process().lost = cudaSuccess;
  settings().fault_name.clear();
  cudaGetLastError();
}

}  // namespace memwall::imitated::test
