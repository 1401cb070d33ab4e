#include "tests/imitated_gpu/process.h"

#include <unistd.h>

#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

thread_local int the_device = 0;
thread_local cudaError_t the_last_error = cudaSuccess;

}  // namespace

Process& process() {
  static Process& the_process = *new Process;
  return the_process;
}

void Process::lose(cudaError_t error) {
  if (lost == cudaSuccess) lost = error;
  scheduler.abandon();
}

void Process::issue(const StreamPtr& stream, Work work, Tally tally) {
  if (stream->capture != nullptr) {
    for (const auto& call : tally.calls) count_capture(call.first);
    stream->capture->graph.items.push_back(
        {stream->lane, std::move(work), -1, false, nullptr, std::move(tally)});
  } else {
    scheduler.enqueue_work(stream, std::move(work));
  }
}

cudaError_t Process::record(Event& event, const StreamPtr& stream) {
  if (event.device != stream->device) return cudaErrorInvalidResourceHandle;
  event.marker = std::make_shared<Marker>();
  if (stream->capture == nullptr) {
    scheduler.enqueue_record(stream, event.marker);
    return cudaSuccess;
  }
  Graph& graph = stream->capture->graph;
  event.marker->captured = true;
  event.marker->capture = stream->capture;
  event.marker->number = graph.markers++;
  graph.items.push_back({stream->lane, nullptr, event.marker->number, false, nullptr, {}});
  return cudaSuccess;
}

cudaError_t Process::record_at_launch(cudaEvent_t event, const StreamPtr& stream) {
  if (stream->capture == nullptr) return cudaErrorInvalidValue;
  if (events.at(event)->device != stream->device) return cudaErrorInvalidResourceHandle;
  stream->capture->graph.items.push_back({stream->lane, nullptr, -1, false, event, {}});
  return cudaSuccess;
}

cudaError_t Process::wait(const StreamPtr& stream, const Event& event) {
  if (event.marker == nullptr) return cudaSuccess;
  const Marker& marker = *event.marker;
  const std::shared_ptr<Capture> capture = marker.capture.lock();
  if (stream->capture != nullptr && stream->capture != capture) {
    complain("a captured stream waits for an event recorded outside its capture");
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureIsolation;
  }
  if (!marker.captured) {
    scheduler.enqueue_wait(stream, event.marker);
    return cudaSuccess;
  }
  if (capture == nullptr) return cudaErrorCapturedEvent;  // that capture has ended
  if (stream->capture == nullptr) {
    stream->capture = capture;
    stream->lane = capture->graph.lanes++;
    capture->streams.push_back(stream);
  }
  capture->graph.items.push_back({stream->lane, nullptr, marker.number, true, nullptr, {}});
  return cudaSuccess;
}

cudaError_t Process::check_no_capture() {
  cudaError_t error = cudaSuccess;
  for (const auto& capture : captures) {
    const bool concerned = capture->global || capture->thread == std::this_thread::get_id();
    if (capture->relaxed || !concerned) continue;
    capture->invalid = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

int& current_device() {
  return the_device;
}
bool is_device(int device) {
  return device >= 0 && device < settings().devices;
}

StreamPtr find_stream(cudaStream_t handle) {
  StreamPtr stream = process().scheduler.find(handle);
  if (stream == nullptr) {
    complain(handle == nullptr ? "the null stream is used: every call must name a stream"
                               : "a call names a stream that does not exist");
  }
  return stream;
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) the_last_error = error;
  return error;
}

cudaError_t last_error(bool clear) {
  const Lock lock(process().mutex);
  const cudaError_t error = process().lost != cudaSuccess ? process().lost : the_last_error;
  if (clear) the_last_error = cudaSuccess;
  return error;
}

cudaError_t enter(const char* name) {
  const bool fails = count_call(name);
  const Settings& asked = settings();
  const bool refuses = asked.refused_name == name, holds = asked.held_name == name;
  if (refuses || holds) {
    const uint64_t call = counts().calls[name];
    while (holds && call == asked.held_call) pause();
    if (refuses && call == asked.refused_call) return cudaErrorInvalidValue;
  }
  if (fails) {
    complain("rank %d: call %llu of %s fails as asked", settings().rank,
             static_cast<unsigned long long>(settings().fault_call), name);
    process().lose(cudaErrorIllegalAddress);
  }
  if (process().lost != cudaSuccess) return process().lost;
  return settings().devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}

}  // namespace memwall::imitated
