#include "runtime/train/requests.h"

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <string>

#include "runtime/base/error.h"

namespace memwall {
namespace {

constexpr double kSave = 1.0, kStop = 0x1.0p20;

// Written by signal handlers.
std::atomic<bool> save_requested{false}, stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int number) {
  (number == SIGUSR1 ? stop_requested : save_requested).store(true, std::memory_order_relaxed);
}

void install(int number, const struct sigaction& action, struct sigaction* previous) {
  if (sigaction(number, &action, previous) != 0) {
    throw Error(std::string("sigaction: ") + std::strerror(errno));
  }
}

}  // namespace

double encode(const StepRequests& requests) {
  return (requests.save ? kSave : 0.0) + (requests.stop ? kStop : 0.0);
}

StepRequests decode_requests(double sum) {
  const bool stop = sum >= kStop;
  return {stop || std::fmod(sum, kStop) != 0.0, stop};
}

RequestSignals::RequestSignals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  install(SIGUSR1, action, &previous_stop_);
  install(SIGUSR2, action, &previous_save_);
}

RequestSignals::~RequestSignals() {
  sigaction(SIGUSR1, &previous_stop_, nullptr);
  sigaction(SIGUSR2, &previous_save_, nullptr);
  if (previous_stop_.sa_handler == on_signal) return;  // nested
  stop_requested.store(false);
  save_requested.store(false);
}

StepRequests RequestSignals::pending() const {
  return {save_requested.load(std::memory_order_relaxed),
          stop_requested.load(std::memory_order_relaxed)};
}

void RequestSignals::saved() {
  save_requested.store(false, std::memory_order_relaxed);
}

}  // namespace memwall
