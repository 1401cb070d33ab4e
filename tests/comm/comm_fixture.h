// Buffers of one collective, filled so that every element tells its rank and place.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "comm/communicator.h"
#include "runtime/base/rng.h"

namespace memwall::test {

// Spread over many magnitudes, so that FP32 sums depend on the order of their terms.
inline float spread_value(int rank, int64_t i) {
  const RandomBlock bits = random_block(11, static_cast<uint32_t>(rank), static_cast<uint64_t>(i));
  const double mantissa = to_unit_interval(bits[0]) - 0.5;
  return static_cast<float>(std::ldexp(mantissa, static_cast<int>(bits[1] % 24)));
}

inline std::vector<float> spread_values(int rank, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = spread_value(rank, i);
  return values;
}

// Element i of the sum over ranks, the plain way.
inline float spread_sum(int ranks, int64_t i) {
  float sum = spread_value(0, i);
  for (int rank = 1; rank < ranks; ++rank) sum += spread_value(rank, i);
  return sum;
}

// Exactly the scratch a reduce-scatter may use, with a guard behind it.
class Receive {
 public:
  Receive(int64_t bytes) : bytes_(static_cast<size_t>(bytes)), data_(bytes_ + kGuard, kMark) {}
  void* data() { return data_.data(); }
  bool guard_intact() const {
    for (size_t i = bytes_; i < data_.size(); ++i) {
      if (data_[i] != kMark) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr std::byte kMark{0x5a};
  size_t bytes_;
  std::vector<std::byte> data_;
};

inline Receive scatter_receive(const Communicator& comm, int64_t shard, DType dtype) {
  return Receive(reduce_scatter_receive_bytes(comm.size(), shard, dtype));
}

}  // namespace memwall::test
