// Streams and events of the CUDA runtime.
#include <cuda_runtime_api.h>

#include "tests/imitated_gpu/process.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

cudaError_t make_stream(cudaStream_t* stream, unsigned flags, int priority) {
  if (flags != cudaStreamDefault && flags != cudaStreamNonBlocking) return cudaErrorInvalidValue;
  const bool blocking = flags == cudaStreamDefault;
  const StreamPtr made = process().scheduler.make_stream(current_device(), blocking, priority);
  *stream = reinterpret_cast<cudaStream_t>(made.get());
  return cudaSuccess;
}

Event* find_event(cudaEvent_t handle) {
  const auto found = process().events.find(handle);
  if (found != process().events.end()) return found->second.get();
  complain("a call names an event that does not exist");
  return nullptr;
}

// The stream of a handle, for a call that a capturing stream does not allow.
cudaError_t find_idle_stream(cudaStream_t handle, StreamPtr& stream) {
  stream = find_stream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->capture == nullptr) return process().check_no_capture();
  stream->capture->invalid = true;
  return cudaErrorStreamCaptureUnsupported;
}

// The marker of an event that the host asks about; null: there is nothing to wait for.
cudaError_t find_marker(cudaEvent_t handle, MarkerPtr& marker) {
  Event* event = find_event(handle);
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  marker = event->marker;
  if (marker != nullptr && marker->captured) return cudaErrorCapturedEvent;
  return process().check_no_capture();
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return api("cudaStreamCreate", [&](Lock&) { return make_stream(stream, cudaStreamDefault, 0); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return api("cudaStreamCreateWithFlags", [&](Lock&) { return make_stream(stream, flags, 0); });
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return api("cudaStreamCreateWithPriority",
             [&](Lock&) { return make_stream(stream, flags, priority); });
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return api("cudaStreamDestroy", [&](Lock&) {
    StreamPtr stream;
    if (const cudaError_t error = find_idle_stream(handle, stream)) return error;
    process().scheduler.destroy(stream);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return api("cudaStreamSynchronize", [&](Lock& lock) {
    StreamPtr stream;
    if (const cudaError_t error = find_idle_stream(handle, stream)) return error;
    process().scheduler.wait(lock, stream);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return api("cudaStreamQuery", [&](Lock&) {
    StreamPtr stream;
    if (const cudaError_t error = find_idle_stream(handle, stream)) return error;
    process().scheduler.poll(stream);
    return stream->items.empty() ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  return api("cudaStreamWaitEvent", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    const Event* event = find_event(event_handle);
    if (stream == nullptr || event == nullptr) return cudaErrorInvalidResourceHandle;
    return process().wait(stream, *event);
  });
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return api("cudaStreamGetPriority", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    *priority = stream->priority;
    return cudaSuccess;
  });
}

// The function may not call the library; inside_work() refuses it.
cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return api("cudaLaunchHostFunc", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    process().issue(stream, [=] {
      function(data);
      return true;
    });
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return api("cudaEventCreateWithFlags", [&](Lock&) {
    auto made = std::make_unique<Event>();
    made->device = current_device();
    made->timing = (flags & cudaEventDisableTiming) == 0;
    *event = reinterpret_cast<cudaEvent_t>(made.get());
    process().events[made.get()] = std::move(made);
    return cudaSuccess;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return api("cudaEventDestroy", [&](Lock&) {
    return process().events.erase(event) == 1 ? cudaSuccess : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event_handle, cudaStream_t handle) {
  return api("cudaEventRecord", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    Event* event = find_event(event_handle);
    if (stream == nullptr || event == nullptr) return cudaErrorInvalidResourceHandle;
    return process().record(*event, stream);
  });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned flags) {
  if (flags == cudaEventRecordDefault) return cudaEventRecord(event, handle);
  return api("cudaEventRecordWithFlags", [&](Lock&) {
    const StreamPtr stream = find_stream(handle);
    if (stream == nullptr || find_event(event) == nullptr) return cudaErrorInvalidResourceHandle;
    if (flags != cudaEventRecordExternal) return cudaErrorInvalidValue;
    return process().record_at_launch(event, stream);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return api("cudaEventQuery", [&](Lock&) {
    MarkerPtr marker;
    if (const cudaError_t error = find_marker(event, marker)) return error;
    if (marker == nullptr) return cudaSuccess;
    process().scheduler.poll(marker);
    return marker->done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return api("cudaEventSynchronize", [&](Lock& lock) {
    MarkerPtr marker;
    if (const cudaError_t error = find_marker(event, marker)) return error;
    if (marker != nullptr) process().scheduler.wait(lock, marker);
    return cudaSuccess;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return api("cudaEventElapsedTime", [&](Lock&) {
    const Event* first = find_event(start);
    const Event* last = find_event(end);
    if (first == nullptr || last == nullptr) return cudaErrorInvalidResourceHandle;
    for (const Event* event : {first, last}) {
      if (!event->timing || event->marker == nullptr) return cudaErrorInvalidResourceHandle;
      if (event->marker->captured) return cudaErrorCapturedEvent;
    }
    if (!first->marker->done || !last->marker->done) return cudaErrorNotReady;
    const std::chrono::duration<float, std::milli> time = last->marker->when - first->marker->when;
    *milliseconds = time.count();
    return cudaSuccess;
  });
}

}  // extern "C"
