// What a rank says when another one does not answer: on a time-out, and on SIGTERM, which mpirun
// sends to the survivors when a rank dies. MPI's blocking calls cannot time out, so each wait
// publishes what it waits for, and a thread that never calls MPI watches it.
#pragma once

#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace memwall {

// Written by the thread that owns MPI; read by the watchdog and by signal handlers, without locks.
class WaitStatus {
 public:
  WaitStatus(int rank, int ranks, std::string host);

  void set_activity(const char* activity);  // valid until the next call
  void expect(int peer);                    // one more message to or from `peer` is due
  void answered(int peer);                  // ... and is done
  void moved();                             // something went through
  void begin_wait();
  void end_wait();

  // Since the wait began or something last went through; 0 outside waits.
  double silent_seconds() const;

  // Whether every lower rank is missing. Survivors of one failure lack the same ranks, so that
  // exactly one of them speaks for all.
  bool speaks() const;

  // "rank R on HOST: no answer for S s in 'ACTIVITY' from rank(s) X,Y\n" and
  // "rank R on HOST: terminated while in 'ACTIVITY', waiting for rank(s) X,Y\n", to standard error
  // by one write(2). Async-signal-safe.
  void report_silence() const;
  void report_termination() const;

 private:
  int rank_;
  std::string host_;
  std::atomic<const char*> activity_{"start-up"};
  std::atomic<int64_t> quiet_since_ns_{0};  // steady clock; 0: not waiting
  std::vector<std::atomic<int>> due_;       // messages in flight with each rank
};

class WaitScope {
 public:
  explicit WaitScope(WaitStatus& status) : status_(status) { status_.begin_wait(); }
  ~WaitScope() { status_.end_wait(); }
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

 private:
  WaitStatus& status_;
};

// Ends the process with exit code 1 once a wait stayed silent for `timeout_seconds` (0: never), so
// that mpirun ends the job. Ranks that do not speak for the job leave it `kGraceSeconds` more.
class Watchdog {
 public:
  static constexpr double kGraceSeconds = 3.0;

  Watchdog(const WaitStatus& status, double timeout_seconds);

 private:
  void watch(std::stop_token stop, const WaitStatus& status, double timeout_seconds);

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses the members above
};

// While it lives, SIGTERM makes the process report and end with exit code 1. One at a time is in
// force: the latest.
class TerminationReport {
 public:
  explicit TerminationReport(const WaitStatus& status);
  ~TerminationReport();
  TerminationReport(const TerminationReport&) = delete;
  TerminationReport& operator=(const TerminationReport&) = delete;

 private:
  const WaitStatus* previous_status_;
  struct sigaction previous_action_ {};
};

}  // namespace memwall
