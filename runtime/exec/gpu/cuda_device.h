// A GPU through CUDA's runtime.
#pragma once

#include <cuda_runtime.h>

#include <array>

#include "runtime/base/device.h"
#include "runtime/exec/gpu/cuda_graphs.h"
#include "runtime/exec/gpu/mark_ring.h"
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
  Mark mark(Queue queue) override { return make_mark(queue, false); }
  Mark time(Queue queue) override { return make_mark(queue, true); }
  void follow(Queue queue, Mark mark) override;
  bool reached(Mark mark) override;
  void wait(Mark mark) override;
  double seconds_between(Mark earlier, Mark later) override;
  void enter(const char* name) override;
  void leave() override;
  DeviceGraphs* graphs() override { return &graphs_; }
  void* context() override { return &context_; }
  void* native(Queue queue) override { return stream(queue); }

 private:
  cudaStream_t stream(Queue queue) const { return streams_[static_cast<size_t>(queue)]; }
  Mark make_mark(Queue queue, bool with_time);

  DeviceInfo info_;
  std::array<cudaStream_t, kQueues> streams_{};
  MarkRing ring_;
  Context context_;
  CudaGraphs graphs_{streams_[static_cast<size_t>(Queue::kCompute)], ring_};
};

}  // namespace memwall::cuda
