// Streams as queues of closures, and the order in which they run. Nothing runs but by order of a
// stream and through events, as on a GPU; so an order that the program forgot to ask for is missing
// here too. Everything runs on the thread that calls the library, under its lock.
//
//   LATE    Work runs only when somebody must have it: a synchronise runs of each stream as little
//   as
//           it needs; of several streams that may run, the one whose next item is youngest. A query
//           runs at most one item. Shows a consumer that does not wait for its producer.
//   EARLY   Work runs as it is enqueued, as far as events and peers allow. Shows work whose
//   host-side
//           input comes later than its enqueue.
//   RANDOM:<seed>  Streams run at random at every call.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "tests/imitated_gpu/memory.h"

namespace memwall::imitated {

struct Stream;
struct Capture;
using Clock = std::chrono::steady_clock;

// A point in a stream; what an event stands for since it was last recorded.
struct Marker {
  std::shared_ptr<Stream> stream;  // null once it is done
  bool done = false;
  Clock::time_point when;          // of done
  std::weak_ptr<Capture> capture;  // recorded in a capture: a number of that capture's graph
  bool captured = false;
  int number = -1;
};
using MarkerPtr = std::shared_ptr<Marker>;

// False: other ranks are awaited; it is to be called again. After true the same work may be started
// anew (a captured launch).
using Work = std::function<bool()>;

struct Item {
  Work work;         // null for the two others
  MarkerPtr marker;  // to set, or to wait for
  bool waits = false;
  uint64_t age = 0;  // younger is more
};

struct Stream {
  int device = 0;
  bool blocking = false;  // ordered with copies that name no stream
  int priority = 0;
  bool destroyed = false;
  std::deque<Item> items;
  std::shared_ptr<Capture> capture;  // while it captures
  int lane = 0;                      // within the capture
};
using StreamPtr = std::shared_ptr<Stream>;
using Lock = std::unique_lock<std::mutex>;

class Scheduler {
 public:
  explicit Scheduler(Memory& memory) : memory_(memory) {}

  StreamPtr make_stream(int device, bool blocking, int priority);
  StreamPtr find(const void* handle) const;  // null: no such stream, or destroyed
  void destroy(const StreamPtr& stream);     // what it holds still runs

  void enqueue_work(const StreamPtr& stream, Work work);
  void enqueue_record(const StreamPtr& stream, const MarkerPtr& marker);
  void enqueue_wait(const StreamPtr& stream, const MarkerPtr& marker);

  // Runs what the order (settings().order) runs unasked.
  void drift();
  // Runs at most one item that `marker`, or the end of `stream`, needs.
  void poll(const MarkerPtr& marker);
  void poll(const StreamPtr& stream);
  // Run until it is done. The lock is released while other ranks are awaited.
  void wait(Lock& lock, const MarkerPtr& marker);
  void wait(Lock& lock, const StreamPtr& stream);  // all that is in it now
  void wait_device(Lock& lock, int device, bool only_blocking);

  bool is_idle(int device) const;  // no stream of it holds anything

  // Drops all work; its markers count as done.
  void abandon();

 private:
  bool step(const StreamPtr& stream);  // runs the first item; false: it cannot run yet
  bool step_towards(StreamPtr stream);
  bool step_any(const std::function<bool(const Stream&)>& wanted);  // the youngest that can run
  bool step_all();
  bool step_random();
  uint64_t draw();                                  // the same numbers for the same seed and rank
  StreamPtr waits_for(const Stream& stream) const;  // null: its first item may run
  void wait_until(Lock& lock, const std::function<bool()>& done,
                  const std::function<bool()>& step_needed);
  void forget_empty();
  [[noreturn]] void give_up() const;

  Memory& memory_;
  std::vector<StreamPtr> streams_;  // also destroyed ones that still hold work
  uint64_t age_ = 0;
  std::mt19937_64 random_;
  uint64_t seeded_ = ~uint64_t{0};
};

// Whether this thread is inside a closure of a stream, where no call of the API is allowed.
bool inside_work();

}  // namespace memwall::imitated
