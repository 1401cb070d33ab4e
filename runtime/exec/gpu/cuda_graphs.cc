#include "runtime/exec/gpu/cuda_graphs.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/kernels/cuda/status.h"

namespace memwall::cuda {
namespace {

int64_t free_bytes() {
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

}  // namespace

// Of this thread alone: other threads go on as they like, and what this one must not do meanwhile
// is an error.
void CudaGraphs::begin_capture() {
  check(state_ == State::kIdle, "a capture within a capture or a launch");
  timed_.clear();
  others_.clear();
  check_cuda(cudaStreamBeginCapture(compute_, cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
  state_ = State::kCapturing;
}

Device::Mark CudaGraphs::mark(cudaStream_t stream, bool with_time) {
  if (state_ == State::kLaunching) {
    if (!with_time) return end_;
    check(times_made_ < times_, "a launch with more marks than its capture");
    return first_time_ + static_cast<Device::Mark>(times_made_++);
  }
  const Device::Mark mark = ring_.take_unseen();
  const unsigned flags = with_time ? cudaEventRecordExternal : cudaEventRecordDefault;
  check_cuda(cudaEventRecordWithFlags(ring_.event(mark), stream, flags),
             "cudaEventRecordWithFlags");
  (with_time ? timed_ : others_).push_back(mark);
  return mark;
}

DeviceGraphs::Graph CudaGraphs::end_capture() {
  check(state_ == State::kCapturing, "no capture is to be ended");
  state_ = State::kIdle;
  Captured captured;
  check_cuda(cudaStreamEndCapture(compute_, &captured.graph), "cudaStreamEndCapture");
  try {
    ring_.settle();
    find_times(captured);
    instantiate(captured);
    check_cuda(cudaGraphLaunch(captured.launchable, compute_), "cudaGraphLaunch");
    // Their events stand for points within the capture.
    for (Device::Mark mark : others_) {
      check_cuda(cudaEventRecord(ring_.event(mark), compute_), "cudaEventRecord");
    }
  } catch (...) {
    destroy(captured);
    throw;
  }
  captured_[next_] = captured;
  return next_++;
}

// By their events, for nodes come in no particular order.
void CudaGraphs::find_times(Captured& captured) const {
  size_t count = 0;
  check_cuda(cudaGraphGetNodes(captured.graph, nullptr, &count), "cudaGraphGetNodes");
  std::vector<cudaGraphNode_t> nodes(count);
  check_cuda(cudaGraphGetNodes(captured.graph, nodes.data(), &count), "cudaGraphGetNodes");
  std::map<cudaEvent_t, size_t> places;
  for (size_t i = 0; i < timed_.size(); ++i) places[ring_.event(timed_[i])] = i;
  captured.times.assign(timed_.size(), nullptr);
  for (cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
    check_cuda(cudaGraphNodeGetType(node, &type), "cudaGraphNodeGetType");
    if (type != cudaGraphNodeTypeEventRecord) continue;
    cudaEvent_t event = nullptr;
    check_cuda(cudaGraphEventRecordNodeGetEvent(node, &event), "cudaGraphEventRecordNodeGetEvent");
    const auto place = places.find(event);
    if (place != places.end()) captured.times[place->second] = node;  // else NCCL's own
  }
  const bool complete = std::all_of(captured.times.begin(), captured.times.end(),
                                    [](auto* n) { return n != nullptr; });
  check(complete, "a captured mark without a node");
}

// Transfers keep their queue's priority. What the graph needs on the device is taken here, not by
// its first launch.
void CudaGraphs::instantiate(Captured& captured) {
  const int64_t before = free_bytes();
  check_cuda(cudaGraphInstantiate(&captured.launchable, captured.graph,
                                  cudaGraphInstantiateFlagUseNodePriority),
             "cudaGraphInstantiate");
  check_cuda(cudaGraphUpload(captured.launchable, compute_), "cudaGraphUpload");
  bytes_ += before - free_bytes();
}

void CudaGraphs::abandon_capture() {
  if (state_ != State::kCapturing) return;
  state_ = State::kIdle;
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(compute_, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // what went wrong is reported by who abandons
}

void CudaGraphs::begin_launch(Graph graph) {
  check(state_ == State::kIdle, "a launch within a capture or a launch");
  const auto found = captured_.find(graph);
  check(found != captured_.end(), "a launch of a graph that is forgotten");
  const Captured& captured = found->second;
  first_time_ = ring_.next();
  times_ = captured.times.size();
  times_made_ = 0;
  for (cudaGraphNode_t node : captured.times) {
    check_cuda(
        cudaGraphExecEventRecordNodeSetEvent(captured.launchable, node, ring_.event(ring_.take())),
        "cudaGraphExecEventRecordNodeSetEvent");
  }
  check_cuda(cudaGraphLaunch(captured.launchable, compute_), "cudaGraphLaunch");
  end_ = ring_.take();
  check_cuda(cudaEventRecord(ring_.event(end_), compute_), "cudaEventRecord");
  state_ = State::kLaunching;
}

bool CudaGraphs::end_launch() {
  check(state_ == State::kLaunching, "no launch is to be ended");
  state_ = State::kIdle;
  return times_made_ == times_;
}

void CudaGraphs::destroy(const Captured& captured) {
  if (captured.launchable != nullptr) cudaGraphExecDestroy(captured.launchable);
  if (captured.graph != nullptr) cudaGraphDestroy(captured.graph);
}

void CudaGraphs::forget(Graph graph) {
  const auto found = captured_.find(graph);
  if (found == captured_.end()) return;
  destroy(found->second);
  captured_.erase(found);
}

void CudaGraphs::forget_all() {
  abandon_capture();
  for (const auto& [number, captured] : captured_) destroy(captured);
  captured_.clear();
}

}  // namespace memwall::cuda
