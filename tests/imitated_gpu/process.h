// What one process holds of the imitated GPUs, and how every call of an API enters it.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/imitated_gpu/capture.h"
#include "tests/imitated_gpu/counts.h"
#include "tests/imitated_gpu/memory.h"
#include "tests/imitated_gpu/scheduler.h"

namespace memwall::imitated {

struct Event {
  int device = 0;
  bool timing = true;
  MarkerPtr marker;  // null: never recorded
};

struct Process {
  std::mutex mutex;
  Memory memory;
  Scheduler scheduler{memory};
  std::map<const void*, std::unique_ptr<Event>> events;
  std::vector<std::shared_ptr<Capture>> captures;
  std::map<const void*, std::unique_ptr<Graph>> graphs;
  std::map<const void*, std::unique_ptr<LaunchableGraph>> launchables;
  cudaError_t lost = cudaSuccess;  // once set every call returns it

  // As an illegal address does on a GPU: nothing that is enqueued runs any more.
  void lose(cudaError_t error);

  // Puts work on the stream, or into its capture, together with what its launches count.
  void issue(const StreamPtr& stream, Work work, Tally tally = {});
  cudaError_t record(Event& event, const StreamPtr& stream);
  // A node of the stream's capture, which records the event at each launch.
  cudaError_t record_at_launch(cudaEvent_t event, const StreamPtr& stream);
  cudaError_t wait(const StreamPtr& stream, const Event& event);

  // Calls that a capture in progress does not allow (allocation, synchronising, queries) make it
  // invalid and return cudaErrorStreamCaptureUnsupported.
  cudaError_t check_no_capture();
};

Process& process();  // never destroyed: kernels are unregistered after main

int& current_device();  // of this thread
bool is_device(int device);

// The stream of a handle. The null stream is none: nobody may use it.
StreamPtr find_stream(cudaStream_t handle);

// The result of a call, kept for cudaGetLastError.
cudaError_t remember(cudaError_t error);
cudaError_t last_error(bool clear);

// Counts the call, injects the fault, and refuses calls from within work.
cudaError_t enter(const char* name);

// body(Lock&) -> cudaError_t, under the lock.
template <class Body>
cudaError_t api(const char* name, Body body) {
  if (inside_work()) return cudaErrorNotPermitted;
  Lock lock(process().mutex);
  cudaError_t error = enter(name);
  if (error != cudaSuccess) return remember(error);
  process().scheduler.drift();
  error = body(lock);
  if (process().lost != cudaSuccess) error = process().lost;
  process().scheduler.drift();
  return remember(error);
}

}  // namespace memwall::imitated
