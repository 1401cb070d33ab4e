// What a graph keeps alive (user objects), and what is said of a capture in progress.
#include <cuda_runtime_api.h>

#include "tests/imitated_gpu/process.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {

// Its function runs once, when neither the program nor a graph holds it any more; it may not call
// the library.
struct UserObject {
  void* data;
  cudaHostFn_t destroy;
  ~UserObject() { destroy(data); }
};

namespace {

// What the program itself holds, by handle.
struct Held {
  std::shared_ptr<UserObject> object;
  unsigned count;
};
std::map<const void*, Held>& held() {
  static auto& the_held = *new std::map<const void*, Held>;
  return the_held;
}

cudaError_t release(cudaUserObject_t handle, unsigned count) {
  const auto found = held().find(handle);
  if (found == held().end() || count == 0 || count > found->second.count) {
    complain("a user object is released more often than the program holds it");
    return cudaErrorInvalidValue;
  }
  found->second.count -= count;
  if (found->second.count == 0) held().erase(found);
  return cudaSuccess;
}

Graph* find_graph(cudaGraph_t handle) {
  for (const auto& capture : process().captures) {
    if (reinterpret_cast<cudaGraph_t>(&capture->graph) == handle) return &capture->graph;
  }
  const auto found = process().graphs.find(handle);
  return found == process().graphs.end() ? nullptr : found->second.get();
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cudaError_t cudaUserObjectCreate(cudaUserObject_t* handle, void* data, cudaHostFn_t destroy,
                                 unsigned count, unsigned flags) {
  return api("cudaUserObjectCreate", [&](Lock&) {
    if (handle == nullptr || destroy == nullptr || count == 0 ||
        flags != cudaUserObjectNoDestructorSync) {
      return cudaErrorInvalidValue;
    }
    auto object = std::make_shared<UserObject>(data, destroy);
    *handle = reinterpret_cast<cudaUserObject_t>(object.get());
    held()[object.get()] = {object, count};
    return cudaSuccess;
  });
}
cudaError_t cudaUserObjectRelease(cudaUserObject_t handle, unsigned count) {
  return api("cudaUserObjectRelease", [&](Lock&) { return release(handle, count); });
}

cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph_handle, cudaUserObject_t handle,
                                      unsigned count, unsigned flags) {
  return api("cudaGraphRetainUserObject", [&](Lock&) {
    Graph* const graph = find_graph(graph_handle);
    const auto found = held().find(handle);
    if (graph == nullptr || found == held().end() || count == 0) return cudaErrorInvalidValue;
    graph->retained.push_back(found->second.object);
    return flags == cudaGraphUserObjectMove ? release(handle, count) : cudaSuccess;
  });
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph,
                                     const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* count) {
  return api("cudaStreamGetCaptureInfo", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (dependencies != nullptr || edges != nullptr || count != nullptr) {
      complain("the nodes of a capture are not imitated");
      return cudaErrorNotSupported;
    }
    Capture* const capture = stream->capture.get();
    *status = capture == nullptr ? cudaStreamCaptureStatusNone
              : capture->invalid ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    if (*status != cudaStreamCaptureStatusActive) return cudaSuccess;
    if (id != nullptr) *id = reinterpret_cast<uintptr_t>(capture);
    if (graph != nullptr) *graph = reinterpret_cast<cudaGraph_t>(&capture->graph);
    return cudaSuccess;
  });
}

// The captures of the double ask their own mode, not the thread's; so this only keeps it.
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return api("cudaThreadExchangeStreamCaptureMode", [&](Lock&) {
    static thread_local cudaStreamCaptureMode the_mode = cudaStreamCaptureModeGlobal;
    std::swap(*mode, the_mode);
    return cudaSuccess;
  });
}

}  // extern "C"
