// The lowest level of shared windows: every byte that one rank gets from another passes these two
// calls. With C names, so that a test can wrap them when it links, as it wraps MPI's
// (tests/support/window_shim.h).
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// Copies `bytes` into this rank's window, where `readers` other ranks will read them.
void memwall_window_write(std::byte* window, const void* data, int64_t bytes, int readers);

// Opens `bytes` in the window of rank `owner` to be read in place, once: `window` itself.
const std::byte* memwall_window_read(const std::byte* window, int64_t bytes, int owner);

}  // extern "C"
