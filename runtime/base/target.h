// What a plan is made for.
#pragma once

#include <cstdint>
#include <string_view>

namespace memwall {

enum class Backend : uint8_t { kCpu, kCuda };

// Of a plan's target: "cpu", or "sm_90" for a GPU of compute capability 9.0.
constexpr Backend backend_of(std::string_view target) {
  return target.starts_with("sm_") ? Backend::kCuda : Backend::kCpu;
}

// What memory is counted by: pages of the host, or what a GPU's driver hands out.
constexpr int64_t page_bytes_of(Backend backend) {
  return backend == Backend::kCuda ? int64_t{2} << 20 : 4096;
}

}  // namespace memwall
