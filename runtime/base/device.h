// An accelerator as the executor and the communicators see it: memory, and queues of work.
//
// What is put in one queue runs in order; queues run side by side unless one follows a mark of
// another. Calls return when the work is queued, not when it is done. Failures of earlier work
// surface as an Error of a later call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/base/device_graphs.h"

namespace memwall {

struct DeviceInfo {
  std::string name;        // "NVIDIA H100 80GB HBM3"
  std::string capability;  // "9.0"
  std::string target;      // what plans are made for: "sm_90"
  std::string versions;    // of driver and libraries, one line
  std::string address;     // on the host's bus: the same in every process
  int index = 0;           // among the host's
  int64_t bytes = 0;       // of its memory
};

// What gives an executor its arena.
class ArenaMemory {
 public:
  virtual ~ArenaMemory() = default;
  // 256-byte aligned. Throws an Error that says how much is free where it does not fit.
  virtual std::byte* allocate(int64_t bytes) = 0;
  virtual void release(std::byte* memory) = 0;
};

class Device : public ArenaMemory {
 public:
  enum class Queue : uint8_t { kCompute, kCommunication, kCopy };
  static constexpr int kQueues = 3;
  // A point in a queue: everything put there before it. Of marks with 32,768 younger ones it is
  // only known that they are reached.
  using Mark = int64_t;

  virtual const DeviceInfo& info() const = 0;
  // Of the host, pinned, so that copies run beside everything else.
  virtual std::byte* allocate_host(int64_t bytes) = 0;
  virtual void release_host(std::byte* memory) = 0;
  virtual int64_t free_bytes() const = 0;

  // Between pinned memory of the host and the device, and within the device.
  virtual void copy(Queue queue, void* to, const void* from, int64_t bytes) = 0;
  virtual void fill(Queue queue, void* to, uint8_t byte, int64_t bytes) = 0;

  virtual Mark mark(Queue queue) = 0;
  // A mark for seconds_between. In a captured graph (below) its time is its own; whether it is
  // reached is only asked once a mark behind that launch is.
  virtual Mark time(Queue queue) { return mark(queue); }
  virtual void follow(Queue queue, Mark mark) = 0;  // what comes next waits for the mark
  virtual bool reached(Mark mark) = 0;
  virtual void wait(Mark mark) = 0;                              // the caller does
  virtual double seconds_between(Mark earlier, Mark later) = 0;  // both reached

  // A named range for profilers: what is queued in between bears the name.
  virtual void enter(const char* name) = 0;
  virtual void leave() = 0;

  virtual DeviceGraphs* graphs() { return nullptr; }  // null: it has none

  // What kernels are started with (KernelCall::context), and the native queue.
  virtual void* context() = 0;
  virtual void* native(Queue queue) = 0;

  void finish(Queue queue) { wait(mark(queue)); }
};

}  // namespace memwall
