#include "comm/shared/window_access.h"

#include <cstring>

void memwall_window_write(std::byte* window, const void* data, int64_t bytes, int) {
  std::memcpy(window, data, static_cast<size_t>(bytes));
}

const std::byte* memwall_window_read(const std::byte* window, int64_t, int) {
  return window;
}
