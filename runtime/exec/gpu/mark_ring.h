// The events behind a GPU's marks: those of the latest kMarks, in a ring.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "runtime/base/device.h"

namespace memwall::cuda {

class MarkRing {
 public:
  static constexpr Device::Mark kMarks = 32768;

  MarkRing() : events_(kMarks, nullptr) {}
  ~MarkRing();
  MarkRing(const MarkRing&) = delete;
  MarkRing& operator=(const MarkRing&) = delete;

  // The next mark. Its event is waited for, so that older marks than the ring holds are reached.
  Device::Mark take();
  // The same while a capture goes on, which allows no waiting: the mark gets another event, and the
  // one that it replaces is waited for by settle().
  Device::Mark take_unseen();
  void settle();

  cudaEvent_t event(Device::Mark mark) const;
  bool is_old(Device::Mark mark) const { return mark + kMarks <= marks_ - 1; }  // reached long ago
  Device::Mark next() const { return marks_; }

 private:
  cudaEvent_t& slot(Device::Mark mark) { return events_[static_cast<size_t>(mark % kMarks)]; }

  std::vector<cudaEvent_t> events_;
  std::vector<cudaEvent_t> replaced_;  // perhaps not reached
  std::vector<cudaEvent_t> spare_;
  Device::Mark marks_ = 0;
};

}  // namespace memwall::cuda
