// Work of a device that is captured where it would be queued, and launched again by one call.
#pragma once

#include <cstdint>

namespace memwall {

class DeviceGraphs {
 public:
  using Graph = int64_t;

  virtual ~DeviceGraphs() = default;

  // What is put in the compute queue from here on, and in queues that follow it, is captured and
  // does not run. Nothing may wait or ask for marks until the end, and by then the compute queue
  // must follow all that was captured.
  virtual void begin_capture() = 0;
  // Launches it for the first time. Marks made since the beginning are that launch's: those of
  // Device::time have their own time, the others are reached when all of it is done.
  virtual Graph end_capture() = 0;
  virtual void abandon_capture() = 0;  // nothing of it runs; without a capture it does nothing

  // Launches it again. Until end_launch(), the caller goes through what it did while capturing, but
  // queues nothing: Device::follow does nothing, and marks are made as then.
  virtual void begin_launch(Graph graph) = 0;
  virtual bool launching() const = 0;
  // Whether as many marks with times were made as while capturing.
  virtual bool end_launch() = 0;

  // What is under way still runs. Of an unknown graph nothing happens.
  virtual void forget(Graph graph) = 0;
  // A capture in progress is abandoned too. A communicator whose calls are in graphs is not given
  // up before they are forgotten.
  virtual void forget_all() = 0;

  // Of the device's memory, that captured graphs have taken so far.
  virtual int64_t bytes() const = 0;
};

}  // namespace memwall
