#include "runtime/train/progress.h"

#include <fmt/format.h>

#include <cmath>

namespace memwall {
namespace {

std::string count_text(double count) {  // "45.2k"
  if (count >= 1e6) return fmt::format("{:.2f}M", count / 1e6);
  if (count >= 1e4) return fmt::format("{:.1f}k", count / 1e3);
  return fmt::format("{:.0f}", count);
}

std::string bytes_text(int64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 1024.0 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.2f} GiB", mib / 1024.0);
}

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  if (hours > 0) return fmt::format("{}:{:02d}:{:02d}", hours, minutes, rest);
  return fmt::format("{}:{:02d}", minutes, rest);
}

std::string progress_text(const ProgressLine& line) {
  const std::string steps = std::to_string(line.steps);
  const std::string utilisation = std::isfinite(line.utilisation)
                                      ? fmt::format("{:.1f}% of peak", 100.0 * line.utilisation)
                                      : "utilisation unknown";
  return fmt::format("step {:>{}}/{}  loss {:.4f}  lr {:.2e}  {} tok/s  {}  {}  ETA {}", line.step,
                     steps.size(), steps, line.loss, line.learning_rate,
                     count_text(line.tokens_per_second), utilisation, bytes_text(line.arena_bytes),
                     duration_text(line.remaining_seconds));
}

}  // namespace memwall
