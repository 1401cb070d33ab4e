#include "comm/rank_sum.h"

#include <algorithm>
#include <bit>
#include <string>

namespace memwall {

namespace {

struct Bf16 {
  uint16_t bits;
};

float widen(_Float16 x) {
  return static_cast<float>(x);
}
float widen(Bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
float widen(float x) {
  return x;
}
double widen(double x) {
  return x;
}

void narrow(float x, _Float16& out) {
  out = static_cast<_Float16>(x);
}
void narrow(float x, float& out) {
  out = x;
}
void narrow(double x, double& out) {
  out = x;
}

// To nearest even; beyond the largest finite value to infinity; NaN stays NaN, quiet.
void narrow(float x, Bf16& out) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out.bits = static_cast<uint16_t>((nan ? bits | 0x400000u : rounded) >> 16);
}

// Sums a tile at a time: the accumulators stay in the first-level cache, and a tile is read whole
// before it is written, so that `out` may be a term.
template <class T>
void sum_tiles(std::span<const void* const> terms, T* out, int64_t count) {
  constexpr int64_t kTile = 1024;
  alignas(64) decltype(widen(T{})) sum[kTile];
  for (int64_t begin = 0; begin < count; begin += kTile) {
    const int64_t n = std::min(kTile, count - begin);
    const T* first = static_cast<const T*>(terms[0]) + begin;
    for (int64_t i = 0; i < n; ++i) sum[i] = widen(first[i]);
    for (const void* term : terms.subspan(1)) {
      const T* addend = static_cast<const T*>(term) + begin;
      for (int64_t i = 0; i < n; ++i) sum[i] += widen(addend[i]);
    }
    for (int64_t i = 0; i < n; ++i) narrow(sum[i], out[begin + i]);
  }
}

}  // namespace

void sum_in_order(std::span<const void* const> terms, void* out, int64_t count, DType dtype) {
  switch (dtype) {
    case DType::kF16: return sum_tiles(terms, static_cast<_Float16*>(out), count);
    case DType::kBF16: return sum_tiles(terms, static_cast<Bf16*>(out), count);
    case DType::kF32: return sum_tiles(terms, static_cast<float*>(out), count);
    case DType::kF64: return sum_tiles(terms, static_cast<double*>(out), count);
    case DType::kI32:
    case DType::kI64: break;
  }
  throw InternalError("no sum over ranks of " + std::string(name_of(dtype)));
}

}  // namespace memwall
