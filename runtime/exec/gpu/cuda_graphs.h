// CUDA graphs of what the compute queue, and queues that follow it, are given.
//
// A mark whose time is asked for is an event record node. Each launch gives those nodes the events
// of new marks, so that launches of one graph that follow each other keep their times.
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <vector>

#include "runtime/base/device_graphs.h"
#include "runtime/exec/gpu/mark_ring.h"

namespace memwall::cuda {

class CudaGraphs final : public DeviceGraphs {
 public:
  // `compute` is the compute queue's. It and the ring must outlive this.
  CudaGraphs(cudaStream_t& compute, MarkRing& ring) : compute_(compute), ring_(ring) {}
  ~CudaGraphs() override { forget_all(); }
  CudaGraphs(const CudaGraphs&) = delete;
  CudaGraphs& operator=(const CudaGraphs&) = delete;

  void begin_capture() override;
  Graph end_capture() override;
  void abandon_capture() override;
  void begin_launch(Graph graph) override;
  bool launching() const override { return state_ == State::kLaunching; }
  bool end_launch() override;
  void forget(Graph graph) override;
  void forget_all() override;
  int64_t bytes() const override { return bytes_; }

  // Whether marks are made by `mark`.
  bool makes_marks() const { return state_ != State::kIdle; }
  Device::Mark mark(cudaStream_t stream, bool with_time);

 private:
  enum class State : uint8_t { kIdle, kCapturing, kLaunching };
  struct Captured {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t launchable = nullptr;
    std::vector<cudaGraphNode_t> times;  // in the order of their marks
  };

  void find_times(Captured& captured) const;
  void instantiate(Captured& captured);
  static void destroy(const Captured& captured);

  cudaStream_t& compute_;
  MarkRing& ring_;
  State state_ = State::kIdle;
  std::map<Graph, Captured> captured_;
  Graph next_ = 0;
  int64_t bytes_ = 0;
  // Of the capture in progress.
  std::vector<Device::Mark> timed_, others_;
  // Of the launch in progress: its marks with times, and the one that all others are.
  Device::Mark first_time_ = 0, end_ = 0;
  size_t times_ = 0, times_made_ = 0;
};

}  // namespace memwall::cuda
