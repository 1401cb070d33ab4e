#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/workspace.h"
#include "runtime/kernels/machine.h"
#include "tests/kernels/op_case.h"
#include "tests/kernels/op_device.h"

namespace memwall::test {
namespace {

int64_t extent(int64_t batch, int64_t rows, int64_t columns, const Strides& s) {
  return (batch - 1) * s.batch + (rows - 1) * s.row + (columns - 1) * s.column + 1;
}

GemmAttributes plain(int64_t m, int64_t n, int64_t k) {
  GemmAttributes g;
  g.m = m, g.n = n, g.k = k;
  g.a = {m * k, k, 1};
  g.b = {k * n, n, 1};
  g.c = {m * n, n, 1};
  return g;
}

OpCase gemm_case(const std::string& name, const GemmAttributes& g) {
  OpCase c;
  c.name = name;
  c.op = Op::kGemm;
  c.attributes = g;
  const int64_t a = extent(g.batch, g.m, g.k, g.a), b = extent(g.batch, g.k, g.n, g.b);
  const int64_t size = extent(g.batch, g.m, g.n, g.c);
  c.inputs = {input({a}, noise(a, 1)), input({b}, noise(b, 2))};
  c.outputs = {output({size})};
  c.tolerance_f32 = 3e-5;
  c.also_wide = true;
  for (DType dtype : c.dtypes) {
    const int64_t bytes = gemm_workspace_bytes(g, dtype, dtype, dtype);
    c.workspace_bytes = std::max(c.workspace_bytes, bytes);
  }
  return c;
}

// All of it: limits are spelt out where they matter.
void expect_gemm(OpCase c) {
  const auto& g = std::get<GemmAttributes>(c.attributes);
  const int64_t edge = (c.iteration % g.limit_period + 1) * g.limit_rows;
  const int64_t m = g.limit == GemmLimit::kM ? std::min(g.m, edge) : g.m;
  const int64_t n = g.limit == GemmLimit::kN ? std::min(g.n, edge) : g.n;
  const int64_t k = g.limit == GemmLimit::kK ? std::min(g.k, edge) : g.k;
  const auto reference = [=](bool accumulate) {
    return [=](const std::vector<Values>& in) {
      Values out(static_cast<size_t>(extent(g.batch, g.m, g.n, g.c)), kUntouched);
      const auto place = [&](int64_t b, int64_t i, int64_t j) -> double& {
        return out[static_cast<size_t>(b * g.c.batch + i * g.c.row + j * g.c.column)];
      };
      for (int64_t b = 0; b < g.batch; ++b) {
        for (int64_t i = 0; i < g.m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            if (i >= m && accumulate) continue;
            double sum = 0;
            for (int64_t p = 0; p < k && i < m; ++p) {
              const int64_t x = b * g.a.batch + i * g.a.row + p * g.a.column;
              const int64_t y = b * g.b.batch + p * g.b.row + j * g.b.column;
              sum += in[0][static_cast<size_t>(x)] * in[1][static_cast<size_t>(y)];
            }
            double& to = place(b, i, j);
            to = (std::isnan(to) ? 0.0 : to) + g.alpha * sum;
          }
        }
      }
      return std::vector<Values>{out};
    };
  };
  for (bool accumulate : {false, true}) {
    c.accumulate = accumulate;
    c.reference = reference(accumulate);
    expect_correct(c);
    c.name += " accumulated";
  }
}

TEST(Gemm, Shapes) {
  expect_gemm(gemm_case("square", plain(40, 48, 37)));
  expect_gemm(gemm_case("one row", plain(1, 50, 30)));
  expect_gemm(gemm_case("one column", plain(50, 1, 30)));
  expect_gemm(gemm_case("one product", plain(9, 11, 1)));
  expect_gemm(gemm_case("deep", plain(20, 33, 600)));
  GemmAttributes g = plain(33, 17, 20);
  g.alpha = 0.125;
  expect_gemm(gemm_case("alpha", g));
}

TEST(Gemm, Transposes) {
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      for (bool tc : {false, true}) {
        GemmAttributes g = plain(35, 29, 41);
        if (ta) g.a = {0, 1, 35};
        if (tb) g.b = {0, 1, 41};
        if (tc) g.c = {0, 1, 35};
        expect_gemm(
            gemm_case(std::string(ta ? "T" : "N") + (tb ? "T" : "N") + (tc ? "T" : "N"), g));
      }
    }
  }
}

TEST(Gemm, Strides) {
  GemmAttributes g = plain(20, 30, 10);
  g.a.row = 17, g.b.row = 40, g.c.row = 35;  // wider rows; what lies between stays
  expect_gemm(gemm_case("leading dimensions", g));
  g.a = {0, 34, 2};
  expect_gemm(gemm_case("no unit stride in a", g));
  g.c = {0, 70, 2};
  expect_gemm(gemm_case("no unit stride in c", g));
}

// Heads inside rows, as attention has them: (rows, heads * size).
TEST(Gemm, Batches) {
  constexpr int64_t kHeads = 3, kRows = 12, kSize = 8, kWidth = kHeads * kSize;
  GemmAttributes g;
  g.batch = kHeads, g.m = kRows, g.n = kRows, g.k = kSize;
  g.a = {kSize, kWidth, 1};
  g.b = {kSize, 1, kWidth};
  g.c = {kRows * kRows, kRows, 1};
  g.alpha = 0.5;
  expect_gemm(gemm_case("scores", g));

  g = plain(20, 24, 16);
  g.batch = 3;
  g.a.batch = 0;
  expect_gemm(gemm_case("one a for all", g));
  g.a.batch = 20 * 16, g.b.batch = 0;
  expect_gemm(gemm_case("one b for all", g));
  g.b.batch = 16 * 24, g.c.batch = 0;
  expect_gemm(gemm_case("summed over the batch", g));
}

TEST(Gemm, Limits) {
  for (GemmLimit limit : {GemmLimit::kM, GemmLimit::kN, GemmLimit::kK}) {
    for (int64_t iteration : {0, 2, 5, 7}) {
      GemmAttributes g = plain(32, 32, 32);
      g.batch = 2;
      g.limit = limit;
      g.limit_rows = 9, g.limit_period = 4;
      OpCase c = gemm_case("limit " + std::to_string(static_cast<int64_t>(limit)), g);
      c.iteration = iteration;
      expect_gemm(c);
      if (limit == GemmLimit::kM) {
        g.c = {32 * 32, 1, 32};
        c.attributes = g;
        expect_gemm(c);
        g.c = {0, 32, 1};
        c = gemm_case("limit, summed", g);
        c.iteration = iteration;
        expect_gemm(c);
      }
    }
  }
}

// Sizes at which the library splits work over threads, weight gradients among them.
TEST(Gemm, ThreadsDoNotChangeBits) {
  struct Shape {
    const char* name;
    GemmAttributes g;
  };
  const auto gradient = [](int64_t m, int64_t n, int64_t k) {
    GemmAttributes g = plain(m, n, k);
    g.a = {0, 1, m};
    return g;
  };
  const auto input_gradient = [](int64_t m, int64_t n, int64_t k) {
    GemmAttributes g = plain(m, n, k);
    g.b = {0, 1, k};
    return g;
  };
  const Shape shapes[] = {{"forward", plain(512, 768, 256)},
                          {"small", plain(64, 64, 64)},
                          {"one row", plain(1, 300, 300)},
                          {"one column", gradient(300, 1, 300)},
                          {"skinny", plain(256, 32, 256)},
                          {"deep and narrow", plain(32, 32, 4096)},
                          {"weight gradient", gradient(256, 768, 1024)},
                          {"deep weight gradient", gradient(64, 64, 4096)},
                          {"small input gradient", input_gradient(128, 512, 1024)},
                          {"input gradient", input_gradient(512, 256, 768)}};
  for (const Shape& shape : shapes) {
    const OpCase c = gemm_case(shape.name, shape.g);
    const auto one = run(c, DType::kF32, 0, 1, {});
    const auto half = run(c, DType::kF16, 0, 1, {}), brain = run(c, DType::kBF16, 0, 1, {});
    for (int threads : {2, 3, 8}) {
      const int64_t offset = on_gpu() ? 8 * threads : threads;  // there matrices are aligned
      EXPECT_EQ(one, run(c, DType::kF32, offset, threads, {}))
          << shape.name << " on " << threads << " threads";
      EXPECT_EQ(half, run(c, DType::kF16, offset, threads, {}))
          << shape.name << " in FP16 on " << threads << " threads";
      EXPECT_EQ(brain, run(c, DType::kBF16, offset, threads, {}))
          << shape.name << " in BF16 on " << threads << " threads";
    }
  }
}

TEST(Machine, SaysWhatItIs) {
  MEMWALL_CPU_ONLY("its features and its speed");
  EXPECT_TRUE(cpu_features().ends_with("-byte registers; " + gemm_library())) << cpu_features();
  EXPECT_GT(measure_gemm_flops(1), 1e8);
}

}  // namespace
}  // namespace memwall::test
