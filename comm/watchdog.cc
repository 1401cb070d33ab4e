#include "comm/watchdog.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace memwall {

namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// One line of bounded length, made and written without the heap or locks.
class Line {
 public:
  Line& operator<<(std::string_view text) {
    const size_t n = std::min(text.size(), sizeof(buffer_) - 1 - used_);
    std::copy_n(text.data(), n, buffer_ + used_);
    used_ += n;
    return *this;
  }
  Line& operator<<(int64_t number) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof(digits), number).ptr;
    return *this << std::string_view(digits, static_cast<size_t>(end - digits));
  }
  void write_to_stderr() {
    buffer_[used_++] = '\n';
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, buffer_, used_);
  }

 private:
  char buffer_[1024];
  size_t used_ = 0;  // at most sizeof(buffer_) - 1: room for the line's end
};

// "INTRO rank(s) 1,2,3", or nothing where no rank is missing.
void list_missing(Line& line, std::string_view intro, const std::vector<std::atomic<int>>& due) {
  constexpr int kListed = 16;
  int missing = 0;
  for (size_t peer = 0; peer < due.size(); ++peer) {
    if (due[peer].load(std::memory_order_relaxed) == 0) continue;
    if (missing++ < kListed) {
      line << (missing == 1 ? intro : "") << (missing == 1 ? " rank(s) " : ",")
           << static_cast<int64_t>(peer);
    }
  }
  if (missing > kListed) line << " and " << int64_t{missing - kListed} << " more";
}

static_assert(std::atomic<const WaitStatus*>::is_always_lock_free);
std::atomic<const WaitStatus*> reported_status{nullptr};  // a signal handler has no other argument

// mpirun sends SIGTERM to all, sleeps a second and sends SIGKILL, but a rank that ends meanwhile
// wakes it (SIGCHLD): ranks that left at once cost the speaker its line in one run of five,
// measured. So all linger.
extern "C" void report_and_exit(int) {
  const WaitStatus* status = reported_status.load();
  if (status != nullptr && status->speaks()) status->report_termination();
  const timespec linger{.tv_sec = 0, .tv_nsec = 500'000'000};
  ::nanosleep(&linger, nullptr);
  ::_exit(EXIT_FAILURE);
}

}  // namespace

WaitStatus::WaitStatus(int rank, int ranks, std::string host)
    : rank_(rank), host_(std::move(host)), due_(static_cast<size_t>(ranks)) {}

void WaitStatus::set_activity(const char* activity) {
  activity_.store(activity, std::memory_order_release);
}

void WaitStatus::expect(int peer) {
  due_[static_cast<size_t>(peer)].fetch_add(1, std::memory_order_relaxed);
}

void WaitStatus::answered(int peer) {
  due_[static_cast<size_t>(peer)].fetch_sub(1, std::memory_order_relaxed);
  moved();
}

void WaitStatus::moved() {
  if (quiet_since_ns_.load(std::memory_order_relaxed) != 0) begin_wait();
}

void WaitStatus::begin_wait() {
  quiet_since_ns_.store(now_ns(), std::memory_order_relaxed);
}
void WaitStatus::end_wait() {
  quiet_since_ns_.store(0, std::memory_order_relaxed);
}

double WaitStatus::silent_seconds() const {
  const int64_t since = quiet_since_ns_.load(std::memory_order_relaxed);
  return since == 0 ? 0.0 : static_cast<double>(now_ns() - since) * 1e-9;
}

bool WaitStatus::speaks() const {
  return std::all_of(due_.begin(), due_.begin() + rank_, [](const std::atomic<int>& due) {
    return due.load(std::memory_order_relaxed) > 0;
  });
}

void WaitStatus::report_silence() const {
  Line line;
  line << "rank " << int64_t{rank_} << " on " << host_ << ": no answer for "
       << static_cast<int64_t>(std::lround(silent_seconds())) << " s in '"
       << activity_.load(std::memory_order_acquire) << "'";
  list_missing(line, " from", due_);
  line.write_to_stderr();
}

void WaitStatus::report_termination() const {
  Line line;
  line << "rank " << int64_t{rank_} << " on " << host_ << ": terminated while in '"
       << activity_.load(std::memory_order_acquire) << "'";
  list_missing(line, ", waiting for", due_);
  line.write_to_stderr();
}

Watchdog::Watchdog(const WaitStatus& status, double timeout_seconds) {
  if (timeout_seconds <= 0.0) return;
  thread_ = std::jthread([this, &status, timeout_seconds](std::stop_token stop) {
    watch(std::move(stop), status, timeout_seconds);
  });
}

void Watchdog::watch(std::stop_token stop, const WaitStatus& status, double timeout_seconds) {
  const auto period = std::chrono::duration<double>(std::min(0.25, timeout_seconds / 4));
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    wake_.wait_for(lock, stop, period, [] { return false; });
    const double grace = status.speaks() ? 0.0 : kGraceSeconds;
    if (status.silent_seconds() < timeout_seconds + grace) continue;
    status.report_silence();
    std::_Exit(EXIT_FAILURE);
  }
}

TerminationReport::TerminationReport(const WaitStatus& status)
    : previous_status_(reported_status.exchange(&status)) {
  struct sigaction action {};
  action.sa_handler = report_and_exit;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, &previous_action_);
}

TerminationReport::~TerminationReport() {
  sigaction(SIGTERM, &previous_action_, nullptr);
  reported_status.store(previous_status_);
}

}  // namespace memwall
