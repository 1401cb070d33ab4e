// Stream capture and graphs of the CUDA runtime.
#include <cuda_runtime_api.h>

#include "tests/imitated_gpu/process.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

cudaError_t begin(const StreamPtr& stream, cudaStreamCaptureMode mode) {
  if (stream->capture != nullptr) return cudaErrorIllegalState;
  auto capture = std::make_shared<Capture>();
  capture->graph.device = stream->device;
  capture->streams = {stream};
  capture->relaxed = mode == cudaStreamCaptureModeRelaxed;
  capture->global = mode == cudaStreamCaptureModeGlobal;
  capture->thread = std::this_thread::get_id();
  stream->capture = capture;
  stream->lane = 0;
  process().captures.push_back(capture);
  return cudaSuccess;
}

cudaError_t end(const StreamPtr& stream, cudaGraph_t* handle) {
  *handle = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->streams[0] != stream) return cudaErrorStreamCaptureUnmatched;
  for (const StreamPtr& member : capture->streams) member->capture.reset();
  capture->streams.clear();
  std::erase(process().captures, capture);
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (!all_joined(capture->graph)) return cudaErrorStreamCaptureUnjoined;
  auto graph = std::make_unique<Graph>(std::move(capture->graph));
  *handle = reinterpret_cast<cudaGraph_t>(graph.get());
  process().graphs[graph.get()] = std::move(graph);
  return cudaSuccess;
}

// A node's handle is the address of its item in a graph that still exists.
std::pair<Graph*, size_t> find_node(cudaGraphNode_t node) {
  const auto* item = reinterpret_cast<const GraphItem*>(node);
  for (const auto& [handle, graph] : process().graphs) {
    for (size_t i = 0; i < graph->items.size(); ++i) {
      if (&graph->items[i] == item && item->is_node()) return {graph.get(), i};
    }
  }
  complain("a call names a node of a graph that does not exist");
  return {nullptr, 0};
}

cudaError_t nodes_of(Graph& graph, cudaGraphNode_t* nodes, size_t* count) {
  size_t found = 0;
  for (GraphItem& item : graph.items) {
    if (!item.is_node()) continue;
    if (nodes != nullptr && found < *count) {
      // In no order that the program could rely on: the last comes first.
      nodes[*count - 1 - found] = reinterpret_cast<cudaGraphNode_t>(&item);
    }
    ++found;
  }
  *count = found;
  return cudaSuccess;
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return api("cudaStreamBeginCapture", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle : begin(stream, mode);
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return api("cudaStreamEndCapture", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle : end(stream, graph);
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return api("cudaStreamIsCapturing", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return api("cudaGraphGetNodes", [&](Lock&) {
    const auto found = process().graphs.find(graph);
    return found == process().graphs.end() ? cudaErrorInvalidValue
                                           : nodes_of(*found->second, nodes, count);
  });
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  return api("cudaGraphNodeGetType", [&](Lock&) {
    const auto [graph, item] = find_node(node);
    if (graph == nullptr) return cudaErrorInvalidValue;
    *type = graph->items[item].event != nullptr ? cudaGraphNodeTypeEventRecord
                                                : cudaGraphNodeTypeKernel;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphEventRecordNodeGetEvent(cudaGraphNode_t node, cudaEvent_t* event) {
  return api("cudaGraphEventRecordNodeGetEvent", [&](Lock&) {
    const auto [graph, item] = find_node(node);
    if (graph == nullptr || graph->items[item].event == nullptr) return cudaErrorInvalidValue;
    *event = graph->items[item].event;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecEventRecordNodeSetEvent(cudaGraphExec_t handle, cudaGraphNode_t node,
                                                 cudaEvent_t event) {
  return api("cudaGraphExecEventRecordNodeSetEvent", [&](Lock&) {
    const auto found = process().launchables.find(handle);
    const auto [graph, item] = find_node(node);
    if (found == process().launchables.end() || graph == nullptr ||
        found->second->source != graph || graph->items[item].event == nullptr ||
        process().events.count(event) == 0) {
      return cudaErrorInvalidValue;
    }
    found->second->graph.items[item].event = event;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  return api("cudaGraphUpload", [&](Lock&) {
    if (process().launchables.count(handle) == 0) return cudaErrorInvalidValue;
    const StreamPtr stream = find_stream(stream_handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    return stream->capture == nullptr ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* handle, cudaGraph_t graph,
                                 unsigned long long flags) {
  return api("cudaGraphInstantiate", [&](Lock&) {
    if (flags != 0 && flags != cudaGraphInstantiateFlagUseNodePriority) {
      return cudaErrorInvalidValue;
    }
    const auto found = process().graphs.find(graph);
    if (found == process().graphs.end()) return cudaErrorInvalidValue;
    auto launchable = std::make_unique<LaunchableGraph>();
    launchable->graph = *found->second;
    launchable->source = found->second.get();
    for (int lane = 1; lane < launchable->graph.lanes; ++lane) {
      launchable->streams.push_back(
          process().scheduler.make_stream(launchable->graph.device, false, 0));
    }
    *handle = reinterpret_cast<cudaGraphExec_t>(launchable.get());
    process().launchables[launchable.get()] = std::move(launchable);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  return api("cudaGraphLaunch", [&](Lock&) {
    const StreamPtr stream = find_stream(stream_handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const auto found = process().launchables.find(handle);
    if (found == process().launchables.end()) return cudaErrorInvalidValue;
    if (stream->capture != nullptr) {
      complain("a graph launched within a capture is not imitated");
      return cudaErrorNotSupported;
    }
    if (stream->device != found->second->graph.device) return cudaErrorInvalidResourceHandle;
    launch(process().scheduler, *found->second, stream);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return api("cudaGraphDestroy", [&](Lock&) {
    return process().graphs.erase(graph) == 1 ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
  return api("cudaGraphExecDestroy", [&](Lock&) {
    const auto found = process().launchables.find(handle);
    if (found == process().launchables.end()) return cudaErrorInvalidValue;
    for (const StreamPtr& stream : found->second->streams) process().scheduler.destroy(stream);
    process().launchables.erase(found);
    return cudaSuccess;
  });
}

}  // extern "C"
