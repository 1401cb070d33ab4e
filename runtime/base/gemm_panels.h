// How a product c = a b is computed on the CPU with FP32 arithmetic: by tiles of c, in steps of
// kGemmDepth products. What the library cannot read or write where it lies (16-bit types, strides
// without a contiguous dimension) passes through a panel: an FP32 copy of one tile.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/base/dtype.h"
#include "runtime/base/op.h"

namespace memwall {

// Products of at most this depth. oneDNN 2.6.3 divides a deeper one among threads where the result
// is small (128 x 512 x 1024, A B^T, differs between one thread and two), and then its bits depend
// on their number; up to 320 it was never seen to, on 1 to 16 threads, and 256 is free: 0.90 to
// 1.02 of the time of whole products over GPT-2's shapes, its own blocks being about as deep.
inline constexpr int64_t kGemmDepth = 256;

// How sgemm names a matrix (rows, columns): 'N' where rows are contiguous, 'T' where columns are.
struct Layout {
  char transpose;
  int64_t leading;  // elements between contiguous runs
};
std::optional<Layout> layout_of(const Strides& s, int64_t rows, int64_t columns);

// c is stored by columns: c^T = b^T a^T is the product to compute.
bool has_transposed_result(const GemmAttributes& g);
GemmAttributes transposed(const GemmAttributes& g);

struct GemmPanels {
  int64_t rows = 0, columns = 0;                  // of the largest tile of c
  int64_t a_bytes = 0, b_bytes = 0, c_bytes = 0;  // multiples of 64; 0: read or written in place
  int64_t sets = 1;  // of panels: as many products of a batch can be computed at once
  int64_t set_bytes() const { return a_bytes + b_bytes + c_bytes; }
  int64_t bytes() const { return sets * set_bytes(); }
};
// Of a product whose result is not transposed. A set is at most 8 MiB; several together, 2 MiB.
GemmPanels gemm_panels(const GemmAttributes& g, DType a, DType b, DType c);

// The rows or columns of the next tile where `left` are left and a tile has at most `most`. A last
// tile of one row would take another path in the library, with other bits.
constexpr int64_t tile_extent(int64_t left, int64_t most) {
  constexpr int64_t kLeast = 16;
  if (left <= most) return left;
  return left < most + kLeast ? most / 2 : most;
}

}  // namespace memwall
