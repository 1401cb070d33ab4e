#include "runtime/exec/gpu/mark_ring.h"

#include "runtime/base/error.h"
#include "runtime/kernels/cuda/status.h"

namespace memwall::cuda {

MarkRing::~MarkRing() {
  for (const auto* events : {&events_, &replaced_, &spare_}) {
    for (cudaEvent_t event : *events) {
      if (event != nullptr) cudaEventDestroy(event);
    }
  }
}

Device::Mark MarkRing::take() {
  cudaEvent_t& event = slot(marks_);
  if (event == nullptr) {
    check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  } else {
    check_cuda(cudaEventSynchronize(event), "cudaEventSynchronize");
  }
  return marks_++;
}

Device::Mark MarkRing::take_unseen() {
  cudaEvent_t& event = slot(marks_);
  if (event != nullptr) {
    check(replaced_.size() < static_cast<size_t>(kMarks), "a capture of too many marks");
    replaced_.push_back(event);
    event = nullptr;
  }
  if (spare_.empty()) {
    check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  } else {
    event = spare_.back();
    spare_.pop_back();
  }
  return marks_++;
}

void MarkRing::settle() {
  for (cudaEvent_t event : replaced_) {
    check_cuda(cudaEventSynchronize(event), "cudaEventSynchronize");
    spare_.push_back(event);
  }
  replaced_.clear();
}

cudaEvent_t MarkRing::event(Device::Mark mark) const {
  check(mark >= 0 && mark < marks_ && !is_old(mark), "a mark that is no longer known");
  return events_[static_cast<size_t>(mark % kMarks)];
}

}  // namespace memwall::cuda
