// Element types of values, wires and files.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "runtime/base/error.h"

namespace memwall {

enum class DType : uint8_t { kF16, kBF16, kF32, kF64, kI32, kI64 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF64:
    case DType::kI64: return 8;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kF16: return "f16";
    case DType::kBF16: return "bf16";
    case DType::kF32: return "f32";
    case DType::kF64: return "f64";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
  }
  return "?";
}

constexpr std::optional<DType> parse_dtype(std::string_view name) {
  for (DType dtype :
       {DType::kF16, DType::kBF16, DType::kF32, DType::kF64, DType::kI32, DType::kI64}) {
    if (name_of(dtype) == name) return dtype;
  }
  return std::nullopt;
}

constexpr bool is_floating(DType dtype) {
  return dtype != DType::kI32 && dtype != DType::kI64;
}

// The type in which a value of this type is accumulated: sums, statistics, losses.
constexpr DType accumulator_of(DType dtype) {
  return dtype == DType::kF64 ? DType::kF64 : DType::kF32;
}

}  // namespace memwall
