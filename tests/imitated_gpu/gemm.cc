#include "tests/imitated_gpu/gemm.h"

#include <bit>
#include <cmath>
#include <vector>

#include "tests/imitated_gpu/numbers.h"

namespace memwall::imitated {
namespace {

constexpr int64_t kTileRows = 32;
constexpr int64_t kTileColumns = 4;

int64_t tiles(int64_t count, int64_t tile) {
  return (count + tile - 1) / tile;
}

// visit(pointer of the element type)
template <class Visit>
void with_type(const Operand& operand, Visit visit) {
  switch (operand.type) {
    case CUDA_R_16F: return visit(static_cast<const Half*>(operand.data));
    case CUDA_R_16BF: return visit(static_cast<const BFloat16*>(operand.data));
    case CUDA_R_64F: return visit(static_cast<const double*>(operand.data));
    default: return visit(static_cast<const float*>(operand.data));
  }
}

template <class Sum, class Element>
Sum widen(Element element) {
  if constexpr (std::is_same_v<Element, BFloat16>) {
    return static_cast<Sum>(static_cast<float>(element));
  } else {
    return static_cast<Sum>(element);
  }
}

// (lines, depth) of the operand as (lines / tile, depth, tile), padded with zeros: what the inner
// loop reads lies side by side.
template <class Sum>
void pack(const Operand& operand, int64_t batch, int64_t lines, int64_t line_stride, int64_t depth,
          int64_t depth_stride, int64_t tile, std::vector<Sum>& packed) {
  packed.assign(static_cast<size_t>(tiles(lines, tile) * depth * tile), Sum{0});
  with_type(operand, [&](const auto* data) {
    data += batch * operand.batch_stride;
    for (int64_t line = 0; line < lines; ++line) {
      Sum* to = packed.data() + line / tile * depth * tile + line % tile;
      for (int64_t p = 0; p < depth; ++p) {
        to[p * tile] = widen<Sum>(data[line * line_stride + p * depth_stride]);
      }
    }
  });
}

// To the nearest number with 10 bits of fraction, of two the even one.
void round_to_tf32(std::vector<float>& values) {
  for (float& value : values) {
    auto bits = std::bit_cast<uint32_t>(value);
    bits += 0xFFF + (bits >> 13 & 1);
    value = std::bit_cast<float>(bits & ~uint32_t{0x1FFF});
  }
}

template <class Sum>
void multiply_tile(const Sum* a, const Sum* b, int64_t depth,
                   Sum (&sums)[kTileColumns][kTileRows]) {
  Sum s0[kTileRows] = {}, s1[kTileRows] = {}, s2[kTileRows] = {}, s3[kTileRows] = {};
  for (int64_t p = 0; p < depth; ++p, a += kTileRows, b += kTileColumns) {
    const Sum b0 = b[0], b1 = b[1], b2 = b[2], b3 = b[3];
    for (int64_t i = 0; i < kTileRows; ++i) {
      s0[i] = std::fma(a[i], b0, s0[i]);
      s1[i] = std::fma(a[i], b1, s1[i]);
      s2[i] = std::fma(a[i], b2, s2[i]);
      s3[i] = std::fma(a[i], b3, s3[i]);
    }
  }
  for (int64_t i = 0; i < kTileRows; ++i) {
    sums[0][i] = s0[i];
    sums[1][i] = s1[i];
    sums[2][i] = s2[i];
    sums[3][i] = s3[i];
  }
}

template <class Sum>
Sum gelu(Sum x) {
  const Sum inner = Sum(0.7978845608028654) * (x + Sum(0.044715) * x * x * x);
  return Sum(0.5) * x * (Sum(1) + std::tanh(inner));
}

template <class Sum>
Sum gelu_slope(Sum x) {
  const Sum scale = Sum(0.7978845608028654), cubic = Sum(0.044715);
  const Sum t = std::tanh(scale * (x + cubic * x * x * x));
  return Sum(0.5) * (Sum(1) + t) +
         Sum(0.5) * x * (Sum(1) - t * t) * scale * (Sum(1) + Sum(3) * cubic * x * x);
}

template <class Sum>
Sum load(const Operand& operand, int64_t batch, int64_t i, int64_t j) {
  const int64_t at =
      batch * operand.batch_stride + i * operand.row_stride + j * operand.column_stride;
  Sum value{};
  with_type(operand, [&](const auto* data) { value = widen<Sum>(data[at]); });
  return value;
}

template <class Sum>
void store(const Operand& operand, int64_t batch, int64_t i, int64_t j, Sum value) {
  const int64_t at =
      batch * operand.batch_stride + i * operand.row_stride + j * operand.column_stride;
  with_type(operand, [&](const auto* data) {
    using Element = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    const_cast<Element*>(data)[at] = static_cast<Element>(value);
  });
}

template <class Sum>
void store_tile(const Gemm& gemm, int64_t batch, int64_t first_row, int64_t first_column,
                const Sum (&sums)[kTileColumns][kTileRows]) {
  const int64_t rows = std::min(kTileRows, gemm.m - first_row);
  const int64_t columns = std::min(kTileColumns, gemm.n - first_column);
  const Sum alpha = static_cast<Sum>(gemm.alpha), beta = static_cast<Sum>(gemm.beta);
  for (int64_t column = 0; column < columns; ++column) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t i = first_row + row, j = first_column + column;
      Sum value = alpha * sums[column][row];
      if (gemm.beta != 0.0) value += beta * load<Sum>(gemm.c, batch, i, j);
      if (gemm.has_bias) value += load<Sum>(gemm.bias, batch, i, 0);
      if (gemm.writes_aux) store(gemm.aux, batch, i, j, value);
      if (gemm.gelu) value = gelu(value);
      if (gemm.gelu_slope) value *= gelu_slope(load<Sum>(gemm.aux, batch, i, j));
      store(gemm.d, batch, i, j, value);
    }
  }
}

template <class Sum>
void run_in(const Gemm& gemm) {
  std::vector<Sum> a, b;
  for (int64_t batch = 0; batch < gemm.batches; ++batch) {
    pack(gemm.a, batch, gemm.m, gemm.a.row_stride, gemm.k, gemm.a.column_stride, kTileRows, a);
    pack(gemm.b, batch, gemm.n, gemm.b.column_stride, gemm.k, gemm.b.row_stride, kTileColumns, b);
    if constexpr (std::is_same_v<Sum, float>) {
      if (gemm.tf32) round_to_tf32(a), round_to_tf32(b);
    }
    for (int64_t j = 0; j < tiles(gemm.n, kTileColumns); ++j) {
      for (int64_t i = 0; i < tiles(gemm.m, kTileRows); ++i) {
        Sum sums[kTileColumns][kTileRows];
        const Sum* const from_a = a.data() + i * gemm.k * kTileRows;
        const Sum* const from_b = b.data() + j * gemm.k * kTileColumns;
        const int64_t first = gemm.in_halves ? gemm.k / 2 : gemm.k;
        multiply_tile(from_a, from_b, first, sums);
        if (first < gemm.k) {
          Sum rest[kTileColumns][kTileRows];
          multiply_tile(from_a + first * kTileRows, from_b + first * kTileColumns, gemm.k - first,
                        rest);
          for (int64_t column = 0; column < kTileColumns; ++column) {
            for (int64_t row = 0; row < kTileRows; ++row) sums[column][row] += rest[column][row];
          }
        }
        store_tile(gemm, batch, i * kTileRows, j * kTileColumns, sums);
      }
    }
  }
}

}  // namespace

size_t element_bytes(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    case CUDA_R_32F: return 4;
    case CUDA_R_64F: return 8;
    default: return 0;
  }
}

void run(const Gemm& gemm) {
  if (gemm.a.type == CUDA_R_64F) {
    run_in<double>(gemm);
  } else {
    run_in<float>(gemm);
  }
}

}  // namespace memwall::imitated
