// A GPU through CUDA's runtime.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <vector>

#include "runtime/base/device.h"
#include "runtime/kernels/cuda/context.h"

namespace memwall::cuda {

class CudaDevice final : public Device {
 public:
  CudaDevice(int index, bool tf32);
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  const DeviceInfo& info() const override { return info_; }
  std::byte* allocate(int64_t bytes) override;
  void release(std::byte* memory) override;
  std::byte* allocate_host(int64_t bytes) override;
  void release_host(std::byte* memory) override;
  int64_t free_bytes() const override;
  void copy(Queue queue, void* to, const void* from, int64_t bytes) override;
  void fill(Queue queue, void* to, uint8_t byte, int64_t bytes) override;
  Mark mark(Queue queue) override;
  void follow(Queue queue, Mark mark) override;
  bool reached(Mark mark) override;
  void wait(Mark mark) override;
  double seconds_between(Mark earlier, Mark later) override;
  void enter(const char* name) override;
  void leave() override;
  void* context() override { return &context_; }
  void* native(Queue queue) override { return stream(queue); }

 private:
  static constexpr size_t kMarks = 32768;

  cudaStream_t stream(Queue queue) const { return streams_[static_cast<size_t>(queue)]; }
  cudaEvent_t event(Mark mark) const;
  bool is_old(Mark mark) const;  // reached long ago

  DeviceInfo info_;
  std::array<cudaStream_t, kQueues> streams_{};
  std::vector<cudaEvent_t> events_;  // of the latest kMarks marks, in a ring
  Mark marks_ = 0;
  Context context_;
};

}  // namespace memwall::cuda
