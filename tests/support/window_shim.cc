#include "tests/support/window_shim.h"

#include <cstddef>

namespace memwall::test {

namespace {
WindowCounts counts;
}

WindowCounts window_counts() {
  return counts;
}
void reset_window_counts() {
  counts = {};
}

}  // namespace memwall::test

using memwall::test::counts;

extern "C" {

void __real_memwall_window_write(std::byte* window, const void* data, int64_t bytes, int readers);
const std::byte* __real_memwall_window_read(const std::byte* window, int64_t bytes, int owner);

void __wrap_memwall_window_write(std::byte* window, const void* data, int64_t bytes, int readers) {
  ++counts.writes;
  counts.sent_bytes += bytes * readers;
  __real_memwall_window_write(window, data, bytes, readers);
}

const std::byte* __wrap_memwall_window_read(const std::byte* window, int64_t bytes, int owner) {
  ++counts.reads;
  const auto index = static_cast<size_t>(owner);
  if (counts.read_bytes.size() <= index) counts.read_bytes.resize(index + 1);
  counts.read_bytes[index] += bytes;
  return __real_memwall_window_read(window, bytes, owner);
}

}  // extern "C"
