// What a rank has moved, counted where the bytes leave. Synchronises nothing.
#pragma once

#include <array>
#include <cstdint>

namespace memwall {

enum class Collective : uint8_t { kAllGather, kReduceScatter, kAllReduce, kOther, kCount };

struct Traffic {
  int64_t calls = 0;
  int64_t payload_bytes = 0;  // the full buffer
  int64_t wire_bytes = 0;     // what this rank sent
  bool operator==(const Traffic&) const = default;
};

struct Ledger {
  std::array<Traffic, static_cast<size_t>(Collective::kCount)> traffic{};
  Traffic& operator[](Collective c) { return traffic[static_cast<size_t>(c)]; }
  const Traffic& operator[](Collective c) const { return traffic[static_cast<size_t>(c)]; }
  bool operator==(const Ledger&) const = default;
};

}  // namespace memwall
