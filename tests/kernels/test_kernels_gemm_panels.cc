// Products whose operands or results pass through FP32 panels: the bits of the FP32 product of the
// same values, rounded once.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/base/gemm_panels.h"
#include "runtime/base/half.h"
#include "runtime/base/workspace.h"
#include "runtime/kernels/machine.h"
#include "runtime/kernels/pack.h"
#include "tests/kernels/op_case.h"
#include "tests/kernels/op_device.h"

namespace memwall::test {
namespace {

constexpr int64_t kMiB = 1 << 20;

int64_t extent(int64_t batch, int64_t rows, int64_t columns, const Strides& s) {
  return (batch - 1) * s.batch + (rows - 1) * s.row + (columns - 1) * s.column + 1;
}

GemmAttributes product(int64_t m, int64_t n, int64_t k, bool transposed_a = false,
                       bool transposed_b = false) {
  GemmAttributes g;
  g.m = m, g.n = n, g.k = k;
  g.a = transposed_a ? Strides{m * k, 1, m} : Strides{m * k, k, 1};
  g.b = transposed_b ? Strides{k * n, 1, k} : Strides{k * n, n, 1};
  g.c = {m * n, n, 1};
  return g;
}

template <class S>
Values rounded(Values values) {
  for (double& v : values) v = static_cast<float>(S(static_cast<float>(v)));
  return values;
}

template <class S>
std::vector<S> narrowed(const std::vector<std::byte>& floats) {
  std::vector<S> out(floats.size() / sizeof(float));
  for (size_t i = 0; i < out.size(); ++i) {
    float x;
    std::memcpy(&x, floats.data() + i * sizeof(float), sizeof(float));
    out[i] = S(x);
  }
  return out;
}

struct Shape {
  const char* name;
  GemmAttributes g;
  int64_t iteration = 0;
};

// All of a, b, c in S or, where `kinds` says so, FP32.
template <class S>
void expect_rounded_product(const Shape& shape, DType dtype, const Kind (&kinds)[3]) {
  const GemmAttributes& g = shape.g;
  const auto type = [&](int i) { return kinds[i] == Kind::kValue ? dtype : DType::kF32; };
  const int64_t a = extent(g.batch, g.m, g.k, g.a), b = extent(g.batch, g.k, g.n, g.b);
  const int64_t c = extent(g.batch, g.m, g.n, g.c);
  OpCase narrow;
  narrow.op = Op::kGemm;
  narrow.attributes = g;
  narrow.iteration = shape.iteration;
  narrow.inputs = {input({a}, rounded<S>(noise(a, 1)), kinds[0]),
                   input({b}, rounded<S>(noise(b, 2)), kinds[1])};
  narrow.outputs = {{kinds[2], {c}, rounded<S>(noise(c, 3))}};
  OpCase wide = narrow;
  narrow.workspace_bytes = gemm_workspace_bytes(g, type(0), type(1), type(2));
  EXPECT_GT(narrow.workspace_bytes, 0);
  EXPECT_LE(narrow.workspace_bytes, 16 * kMiB);
  EXPECT_EQ(gemm_workspace_bytes(g, DType::kF32, DType::kF32, DType::kF32), 0);
  for (bool accumulate : {false, true}) {
    narrow.accumulate = wide.accumulate = accumulate;
    const auto exact = run(wide, DType::kF32, 0, 1, {})[0];
    for (int threads : {1, 2, 3}) {
      const auto got = run(narrow, dtype, threads, threads, {})[0];
      std::vector<std::byte> want = exact;
      if (kinds[2] == Kind::kValue) {
        const std::vector<S> values = narrowed<S>(exact);
        want.assign(reinterpret_cast<const std::byte*>(values.data()),
                    reinterpret_cast<const std::byte*>(values.data() + values.size()));
      }
      EXPECT_EQ(got, want) << shape.name << (accumulate ? " accumulated" : "") << " on " << threads
                           << " threads";
    }
  }
}

template <class S>
void expect_rounded_products(const Shape& shape, DType dtype) {
  constexpr Kind kNarrow = Kind::kValue, kWide = Kind::kStatistic;
  expect_rounded_product<S>(shape, dtype, {kNarrow, kNarrow, kNarrow});
  expect_rounded_product<S>(shape, dtype, {kNarrow, kNarrow, kWide});
  expect_rounded_product<S>(shape, dtype, {kWide, kNarrow, kWide});
  expect_rounded_product<S>(shape, dtype, {kNarrow, kWide, kNarrow});
}

std::vector<Shape> single_tiles() {
  GemmAttributes heads = product(60, 60, 16);
  heads.batch = 3;
  heads.a = {16, 48, 1};
  heads.b = {16, 1, 48};
  GemmAttributes summed = product(30, 40, 20);
  summed.batch = 3, summed.c.batch = 0;
  GemmAttributes limited = product(64, 64, 64);
  limited.batch = 2, limited.limit_rows = 16, limited.limit_period = 4, limited.alpha = 0.125;
  GemmAttributes by_columns = product(35, 29, 41);
  by_columns.c = {0, 1, 35};
  GemmAttributes logits = product(32, 50, 24, false, true);
  logits.c.row = 64;
  std::vector<Shape> shapes = {{"plain", product(200, 150, 700)},
                               {"one row", product(1, 300, 260)},
                               {"one column", product(70, 1, 260)},
                               {"heads", heads},
                               {"summed over the batch", summed},
                               {"result by columns", by_columns},
                               {"rows apart", logits}};
  for (GemmLimit limit : {GemmLimit::kM, GemmLimit::kN, GemmLimit::kK}) {
    limited.limit = limit;
    shapes.push_back({"limited", limited, 5});
  }
  return shapes;
}

TEST(GemmPanels, RoundTheFp32Product) {
  MEMWALL_CPU_ONLY("its panels");
  for (const Shape& shape : single_tiles()) {
    expect_rounded_products<Half>(shape, DType::kF16);
    expect_rounded_products<BFloat16>(shape, DType::kBF16);
  }
}

// Elsewhere the library's bits may depend on the height of a call, and FP32 is not cut into tiles.
TEST(GemmPanels, TilesDoNotChangeBits) {
  MEMWALL_CPU_ONLY("its panels");
  if (kRegisterBytes < 64) GTEST_SKIP() << "needs AVX-512";
  if (!gemm_library().starts_with("oneDNN")) {
    GTEST_SKIP() << gemm_library() << " may give an element other bits in a tile of another size";
  }
  GemmAttributes summed = product(1030, 90, 70);
  summed.batch = 2, summed.c.batch = 0;
  const Shape shapes[] = {{"remainder of one row", product(1025, 40, 300)},
                          {"columns", product(30, 3001, 270, false, true)},
                          {"rows and columns", product(1100, 1200, 40, true)},
                          {"tiles of operands alone", product(4097, 30, 280, true)},
                          {"wide tiles", product(20, 8200, 30)},
                          {"summed", summed}};
  for (const Shape& shape : shapes) {
    expect_rounded_products<Half>(shape, DType::kF16);
    expect_rounded_products<BFloat16>(shape, DType::kBF16);
  }
}

TEST(GemmPanels, TilesCoverAndNoneIsThin) {
  for (int64_t most : {1024, 4096}) {
    for (int64_t whole = 1; whole < 3 * most; ++whole) {
      int64_t left = whole;
      while (left > 0) {
        const int64_t tile = tile_extent(left, most);
        ASSERT_LE(tile, most);
        ASSERT_GT(tile, whole == 1 ? 0 : whole < 16 ? 1 : 15) << whole;
        left -= tile;
      }
      ASSERT_EQ(left, 0);
    }
  }
}

// GPT-2's largest: the panels stay small whatever the model.
TEST(GemmPanels, AreAtMost8MiB) {
  const DType half = DType::kF16, single = DType::kF32;
  EXPECT_EQ(gemm_workspace_bytes(product(1024, 3072, 768), half, half, half), 6 * kMiB);
  EXPECT_EQ(gemm_workspace_bytes(product(50257, 768, 256, true), half, half, single),
            (4096 + 768) * 256 * 4);
  EXPECT_EQ(gemm_workspace_bytes(product(50257, 50257, 50257), half, half, single), 8 * kMiB);
  EXPECT_EQ(gemm_workspace_bytes(product(256, 50257, 768), half, half, half),
            (256 * 256 + 256 * 1024 + 256 * 1024) * 4);
  EXPECT_EQ(gemm_workspace_bytes(product(512, 512, 512), DType::kF64, DType::kF64, DType::kF64), 0);
}

TEST(GemmPanels, TooSmallAWorkspaceIsRefused) {
  MEMWALL_CPU_ONLY("its panels");
  OpCase c;
  c.op = Op::kGemm;
  c.attributes = product(8, 8, 8);
  c.inputs = {input({64}, noise(64, 1)), input({64}, noise(64, 2))};
  c.outputs = {output({64})};
  c.workspace_bytes = 64;
  EXPECT_THROW(run(c, DType::kF16, 0, 1, {}), InternalError);
}

}  // namespace
}  // namespace memwall::test
