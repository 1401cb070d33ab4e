// What communicators of GPUs' memory share: the host's communicator does what is not a plan's.
#pragma once

#include "comm/communicator.h"
#include "runtime/base/device.h"

namespace memwall {

// Collectives are of device memory; a wait makes the compute queue follow the result. The blocking
// helpers are of host memory.
class DeviceCommunicator : public Communicator {
 public:
  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  void barrier() override { host_.barrier(); }
  void broadcast(void* data, int64_t bytes, int root) override {
    host_.broadcast(data, bytes, root);
  }
  std::vector<double> gather_all(const std::vector<double>& mine) override {
    return host_.gather_all(mine);
  }
  std::vector<std::string> gather_text(const std::string& mine) override {
    return host_.gather_text(mine);
  }
  void set_activity(const char* activity) override { host_.set_activity(activity); }

 protected:
  // Both must outlive this.
  DeviceCommunicator(Device& device, Communicator& host) : device_(device), host_(host) {}

  Device& device_;
  Communicator& host_;
};

}  // namespace memwall
