#include "tests/imitated_gpu/scheduler.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

thread_local bool is_inside_work = false;

void finish(Marker& marker) {
  marker.done = true;
  marker.when = Clock::now();
  marker.stream.reset();
}

}  // namespace

bool inside_work() {
  return is_inside_work;
}

StreamPtr Scheduler::make_stream(int device, bool blocking, int priority) {
  auto stream = std::make_shared<Stream>();
  stream->device = device;
  stream->blocking = blocking;
  stream->priority = priority;
  streams_.push_back(stream);
  return stream;
}

StreamPtr Scheduler::find(const void* handle) const {
  for (const StreamPtr& stream : streams_) {
    if (stream.get() == handle && !stream->destroyed) return stream;
  }
  return nullptr;
}

void Scheduler::destroy(const StreamPtr& stream) {
  stream->destroyed = true;
  forget_empty();
}

void Scheduler::forget_empty() {
  std::erase_if(streams_, [](const StreamPtr& s) { return s->destroyed && s->items.empty(); });
}

void Scheduler::enqueue_work(const StreamPtr& stream, Work work) {
  stream->items.push_back({std::move(work), nullptr, false, ++age_});
}
void Scheduler::enqueue_record(const StreamPtr& stream, const MarkerPtr& marker) {
  marker->stream = stream;
  stream->items.push_back({nullptr, marker, false, ++age_});
}
void Scheduler::enqueue_wait(const StreamPtr& stream, const MarkerPtr& marker) {
  if (!marker->done) stream->items.push_back({nullptr, marker, true, ++age_});
}

StreamPtr Scheduler::waits_for(const Stream& stream) const {
  if (stream.items.empty()) return nullptr;
  const Item& first = stream.items.front();
  return first.waits && !first.marker->done ? first.marker->stream : nullptr;
}

bool Scheduler::step(const StreamPtr& stream) {
  if (stream->items.empty() || waits_for(*stream) != nullptr) return false;
  if (stream->items.front().work != nullptr) {
    // The work may abandon everything, and thereby empty the stream.
    Work work = std::move(stream->items.front().work);
    is_inside_work = true;
    const bool finished = work();
    is_inside_work = false;
    if (!finished && !stream->items.empty()) {
      stream->items.front().work = std::move(work);
      return false;
    }
  } else if (!stream->items.front().waits) {
    finish(*stream->items.front().marker);
  }
  if (!stream->items.empty()) stream->items.pop_front();
  if (stream->destroyed) forget_empty();
  return true;
}

// Waits point at markers recorded before them, so this ends.
bool Scheduler::step_towards(StreamPtr stream) {
  while (const StreamPtr other = waits_for(*stream)) stream = other;
  return step(stream);
}

bool Scheduler::step_any(const std::function<bool(const Stream&)>& wanted) {
  std::vector<StreamPtr> candidates;
  for (const StreamPtr& stream : streams_) {
    if (!stream->items.empty() && wanted(*stream)) candidates.push_back(stream);
  }
  std::sort(candidates.begin(), candidates.end(), [](const StreamPtr& a, const StreamPtr& b) {
    return a->items.front().age > b->items.front().age;
  });
  for (const StreamPtr& stream : candidates) {
    if (waits_for(*stream) == nullptr && step(stream)) return true;
  }
  for (const StreamPtr& stream : candidates) {
    if (step_towards(stream)) return true;
  }
  return false;
}

bool Scheduler::step_all() {
  bool moved = false;
  const std::vector<StreamPtr> streams = streams_;
  for (const StreamPtr& stream : streams) {
    while (step(stream)) moved = true;
  }
  return moved;
}

uint64_t Scheduler::draw() {
  const uint64_t seed = settings().seed * 1009 + static_cast<uint64_t>(settings().rank);
  if (seeded_ != seed) {
    random_.seed(seed);
    seeded_ = seed;
  }
  return random_();
}

bool Scheduler::step_random() {
  std::vector<StreamPtr> runnable;
  for (const StreamPtr& stream : streams_) {
    if (!stream->items.empty() && waits_for(*stream) == nullptr) runnable.push_back(stream);
  }
  return !runnable.empty() && step(runnable[draw() % runnable.size()]);
}

void Scheduler::drift() {
  if (settings().order == Order::kLate) return;
  const bool idle =
      std::all_of(streams_.begin(), streams_.end(), [](auto& s) { return s->items.empty(); });
  if (idle) return;
  const OpenMemory open(memory_);
  if (settings().order == Order::kEarly) {
    while (step_all()) {
    }
    return;
  }
  // Seldom, and then several: a stream may fall far behind the others.
  if (draw() % 8 != 0) return;
  while (step_random() && draw() % 4 != 0) {
  }
}

void Scheduler::poll(const MarkerPtr& marker) {
  if (!marker->done) poll(marker->stream);
}
void Scheduler::poll(const StreamPtr& stream) {
  if (settings().order != Order::kLate) return;  // drift() has run
  const OpenMemory open(memory_);
  step_towards(stream);
}

void Scheduler::wait(Lock& lock, const MarkerPtr& marker) {
  wait_until(
      lock, [&] { return marker->done; }, [&] { return step_towards(marker->stream); });
}

void Scheduler::wait(Lock& lock, const StreamPtr& stream) {
  const uint64_t last = age_;
  wait_until(
      lock, [&] { return stream->items.empty() || stream->items.front().age > last; },
      [&] { return step_towards(stream); });
}

bool Scheduler::is_idle(int device) const {
  return std::all_of(streams_.begin(), streams_.end(), [&](const StreamPtr& stream) {
    return stream->device != device || stream->items.empty();
  });
}

void Scheduler::wait_device(Lock& lock, int device, bool only_blocking) {
  const uint64_t last = age_;
  const auto wanted = [&](const Stream& stream) {
    return stream.device == device && (stream.blocking || !only_blocking) &&
           !stream.items.empty() && stream.items.front().age <= last;
  };
  wait_until(
      lock,
      [&] {
        return std::none_of(streams_.begin(), streams_.end(), [&](auto& s) { return wanted(*s); });
      },
      [&] { return step_any(wanted); });
}

void Scheduler::wait_until(Lock& lock, const std::function<bool()>& done,
                           const std::function<bool()>& step_needed) {
  const auto step_in_order = [&] {
    if (settings().order == Order::kEarly && step_all()) return true;
    if (settings().order == Order::kRandom && step_random()) return true;
    return !done() && step_needed();
  };
  const auto patience = std::chrono::duration<double>(settings().patience_seconds);
  Clock::time_point moved = Clock::now();
  while (!done()) {
    {
      const OpenMemory open(memory_);
      bool any = false;
      while (!done() && step_in_order()) any = true;
      if (any) moved = Clock::now();
    }
    if (done()) return;
    if (Clock::now() - moved > patience) give_up();
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    lock.lock();
  }
}

void Scheduler::give_up() const {
  complain("rank %d: nothing ran for %.0f s: other ranks do not call what this one waits for",
           settings().rank, settings().patience_seconds);
  for (const StreamPtr& stream : streams_) {
    if (stream->items.empty()) continue;
    const Item& first = stream->items.front();
    complain("  a stream of device %d holds %zu items, first %s", stream->device,
             stream->items.size(),
             first.waits               ? "a wait"
             : first.marker == nullptr ? "work"
                                       : "a record");
  }
  std::abort();
}

void Scheduler::abandon() {
  for (const StreamPtr& stream : streams_) {
    for (const Item& item : stream->items) {
      if (item.marker != nullptr && !item.waits) finish(*item.marker);
    }
    stream->items.clear();
  }
}

}  // namespace memwall::imitated
