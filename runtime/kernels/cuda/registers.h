// Registers of the GPU: a register is a thread's scalar, and a pack is as many of them. The twin of
// cpu/registers.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "runtime/base/half.h"
#include "runtime/base/host_device.h"

namespace memwall {

// Elements that a team hands a thread at once.
inline constexpr int kLanes = 4;

template <class T, int N>
struct VectorType {
  static_assert(N == 1, "a register of the GPU has one lane");
  using Type = T;
};
template <class T, int N>
using Vector = typename VectorType<T, N>::Type;

template <class T>
inline constexpr int kLanesOfRegister = 1;

template <class To, class From>
MEMWALL_HOST_DEVICE inline To bit_pattern(const From& from) {
  return std::bit_cast<To>(from);
}

// Types that are stored only: values are computed with as float.
template <class S>
inline constexpr bool kIsNarrow = std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>;

template <class S>
MEMWALL_HOST_DEVICE inline float widen(uint16_t bits) {
  if constexpr (std::is_same_v<S, Half>) {
    return __half2float(std::bit_cast<__half>(bits));
  } else {
    return __bfloat162float(std::bit_cast<__nv_bfloat16>(bits));
  }
}

template <class S>
MEMWALL_HOST_DEVICE inline uint16_t narrow(float x) {
  if constexpr (std::is_same_v<S, Half>) {
    return std::bit_cast<uint16_t>(__float2half_rn(x));
  } else {
    return std::bit_cast<uint16_t>(__float2bfloat16_rn(x));
  }
}

// x * y + z with one rounding.
template <class T>
MEMWALL_HOST_DEVICE inline T multiply_add(T x, T y, T z) {
  return std::fma(x, y, z);
}

template <class T>
MEMWALL_HOST_DEVICE inline T square_root(T x) {
  return std::sqrt(x);
}

}  // namespace memwall
