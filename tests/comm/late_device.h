// A device whose memory is the host's and whose queues run as late as they may: nothing happens
// before somebody waits for a mark or asks whether it is reached, and then only what it needs. So
// a dependency that was not stated shows as a wrong value.
#pragma once

#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "runtime/base/device.h"

namespace memwall::test {

class LateDevice : public Device {
 public:
  const DeviceInfo& info() const override { return info_; }
  std::byte* allocate(int64_t bytes) override {
    return static_cast<std::byte*>(std::malloc(static_cast<size_t>(bytes)));
  }
  void release(std::byte* memory) override { std::free(memory); }
  std::byte* allocate_host(int64_t bytes) override {
    ++pinned_;
    return allocate(bytes);
  }
  void release_host(std::byte* memory) override {
    --pinned_;
    release(memory);
  }
  int pinned() const { return pinned_; }  // allocations of the host's memory
  int64_t free_bytes() const override { return 0; }
  void copy(Queue queue, void* to, const void* from, int64_t bytes) override {
    put(queue, [=] { std::memmove(to, from, static_cast<size_t>(bytes)); });
  }
  void fill(Queue queue, void* to, uint8_t byte, int64_t bytes) override {
    put(queue, [=] { std::memset(to, byte, static_cast<size_t>(bytes)); });
  }
  Mark mark(Queue queue) override {
    marks_.push_back({queue, work_of(queue).size()});
    return static_cast<Mark>(marks_.size()) - 1;
  }
  void follow(Queue queue, Mark mark) override {
    put(queue, [this, mark] { run_to(mark); });
  }
  // Asked often enough it is reached: every second time.
  bool reached(Mark mark) override {
    if (++asked_ % 2 == 0) run_to(mark);
    const auto& [queue, end] = marks_[static_cast<size_t>(mark)];
    return done_[static_cast<size_t>(queue)] >= end;
  }
  void wait(Mark mark) override { run_to(mark); }
  double seconds_between(Mark, Mark) override { return 0.0; }
  void enter(const char*) override {}
  void leave() override {}
  void* context() override { return nullptr; }
  void* native(Queue) override { return nullptr; }

  // What a kernel would do.
  void put(Queue queue, std::function<void()> work) { work_of(queue).push_back(std::move(work)); }

 private:
  std::vector<std::function<void()>>& work_of(Queue queue) {
    return work_[static_cast<size_t>(queue)];
  }
  void run_to(Mark mark) {
    const auto [queue, end] = marks_[static_cast<size_t>(mark)];
    size_t& done = done_[static_cast<size_t>(queue)];
    while (done < end) {
      const auto work = work_of(queue)[done];
      work();
      ++done;
    }
  }

  DeviceInfo info_;
  std::vector<std::function<void()>> work_[kQueues];
  size_t done_[kQueues] = {};
  std::vector<std::pair<Queue, size_t>> marks_;
  int asked_ = 0, pinned_ = 0;
};

}  // namespace memwall::test
