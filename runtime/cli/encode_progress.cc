#include "runtime/cli/encode_progress.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

namespace memwall {
namespace {

constexpr double kSecondsBetween = 2.0;
constexpr double kMega = 1e6;

}  // namespace

EncodeProgress encode_progress() {
  using Clock = std::chrono::steady_clock;
  const auto started = Clock::now();
  return [started, next = kSecondsBetween](int64_t done, int64_t all) mutable {
    const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
    if (seconds < next) return;
    next = seconds + kSecondsBetween;
    const double bytes = static_cast<double>(done);
    fmt::print(stderr, "memwall: encoded {:.1f} of {:.1f} MB, {:.1f} MB/s\n", bytes / kMega,
               static_cast<double>(all) / kMega, bytes / kMega / seconds);
  };
}

}  // namespace memwall
