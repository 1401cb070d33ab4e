// Products that go on with their sums before they store them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/base/half.h"
#include "runtime/base/workspace.h"
#include "tests/kernels/gelu_reference.h"
#include "tests/kernels/op_case.h"
#include "tests/kernels/op_device.h"

namespace memwall::test {
namespace {

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

struct Sizes {
  int64_t batch, m, n, k;
};

// c by rows; `b_by_columns`: as the input gradient reads a weight.
GemmAttributes product_of(const Sizes& s, bool b_by_columns) {
  GemmAttributes g;
  g.batch = s.batch, g.m = s.m, g.n = s.n, g.k = s.k;
  g.a = {0, s.k, 1};  // of a batch the same a: q/k/v
  g.b = b_by_columns ? Strides{s.k * s.n, 1, s.k} : Strides{s.k * s.n, s.n, 1};
  g.c = {s.m * s.n, s.n, 1};
  return g;
}

OpCase case_of(Op op, const Sizes& s, bool b_by_columns = false) {
  OpCase c;
  c.name = std::to_string(s.batch) + " x " + std::to_string(s.m) + " x " + std::to_string(s.n) +
           " x " + std::to_string(s.k);
  c.op = op;
  const GemmAttributes g = product_of(s, b_by_columns);
  c.attributes = g;
  c.inputs = {input({s.m * s.k}, noise(s.m * s.k, 1)),
              input({s.batch * s.k * s.n}, noise(s.batch * s.k * s.n, 2))};
  c.outputs = {output({s.batch * s.m * s.n})};
  // Which GELU a real cuBLASLt computes in FP32 is not documented.
  const bool real_gelu = op != Op::kGemmBias && on_gpu() && !on_imitated_gpu();
  c.tolerance_f32 = real_gelu ? 2e-3 : 3e-5;
  // On the CPU what lies between two of the ops is rounded, which the references here do not do:
  // below those bits are compared with the ops' own.
  c.dtypes = {DType::kF32, DType::kF64};
  if (on_gpu()) c.dtypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64};
  for (DType dtype : {DType::kF32, DType::kF16}) {
    c.workspace_bytes = std::max(c.workspace_bytes, gemm_workspace_bytes(g, dtype, dtype, dtype));
  }
  return c;
}

Values sums(const GemmAttributes& g, const std::vector<Values>& in) {
  Values out(at(g.batch * g.m * g.n), 0.0);
  for (int64_t batch = 0; batch < g.batch; ++batch) {
    for (int64_t i = 0; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) {
        for (int64_t p = 0; p < g.k; ++p) {
          out[at(batch * g.c.batch + i * g.n + j)] +=
              in[0][at(i * g.k + p)] * in[1][at(batch * g.b.batch + p * g.b.row + j * g.b.column)];
        }
      }
    }
  }
  return out;
}

Values with_bias(const GemmAttributes& g, const std::vector<Values>& in) {
  Values out = sums(g, in);
  for (size_t i = 0; i < out.size(); ++i) {
    const auto batch = static_cast<int64_t>(i) / (g.m * g.n);
    out[i] += in[2][at(batch * g.n + static_cast<int64_t>(i) % g.n)];
  }
  return out;
}

constexpr Sizes kBiasSizes[] = {{1, 33, 48, 37}, {1, 1, 56, 20}, {1, 40, 5, 16},
                                {3, 20, 24, 32}, {3, 7, 12, 9},  {1, 70, 96, 300}};
constexpr Sizes kGeluSizes[] = {{1, 33, 48, 37}, {1, 1, 56, 20}, {1, 40, 8, 16}, {1, 70, 96, 300}};

TEST(GemmEpilogues, Bias) {
  for (const Sizes& s : kBiasSizes) {
    OpCase c = case_of(Op::kGemmBias, s);
    c.inputs.push_back(input({s.batch * s.n}, noise(s.batch * s.n, 3)));
    const GemmAttributes g = product_of(s, false);
    c.reference = [g](const std::vector<Values>& in) {
      return std::vector<Values>{with_bias(g, in)};
    };
    expect_correct(c);
  }
}

TEST(GemmEpilogues, BiasAndGelu) {
  for (const Sizes& s : kGeluSizes) {
    OpCase c = case_of(Op::kGemmBiasGelu, s);
    c.inputs.push_back(input({s.n}, noise(s.n, 3)));
    c.outputs.push_back(output({s.m * s.n}));
    const GemmAttributes g = product_of(s, false);
    c.reference = [g](const std::vector<Values>& in) {
      const Values h = with_bias(g, in);
      Values y = h;
      for (double& v : y) v = gelu(v);
      return std::vector<Values>{h, y};
    };
    expect_correct(c);
  }
}

TEST(GemmEpilogues, GeluGrad) {
  for (const Sizes& s : kGeluSizes) {
    OpCase c = case_of(Op::kGemmGeluGrad, s, true);
    c.inputs.push_back(input({s.m * s.n}, noise(s.m * s.n, 3, 2.0)));
    const GemmAttributes g = product_of(s, true);
    c.reference = [g](const std::vector<Values>& in) {
      Values dx = sums(g, in);
      for (size_t i = 0; i < dx.size(); ++i) dx[i] *= gelu_slope(in[2][i]);
      return std::vector<Values>{dx};
    };
    expect_correct(c);
  }
}

// The same addresses of one product with another bias: what a call names is what it reads.
TEST(GemmEpilogues, ReadTheirOwnCallsOperands) {
  OpCase c = case_of(Op::kGemmBias, {1, 16, 16, 16});
  c.inputs.push_back(input({16}, noise(16, 3)));
  const auto at_0 = run(c, DType::kF32, 0, 1, {}), at_8 = run(c, DType::kF32, 8, 1, {});
  EXPECT_EQ(at_0, at_8);
  c.inputs[2].values = noise(16, 4);
  EXPECT_NE(run(c, DType::kF32, 0, 1, {}), at_0);
}

template <class T>
std::vector<T> of_type(const Values& values) {
  std::vector<T> out;
  for (double v : values) out.push_back(T(static_cast<float>(v)));
  return out;
}

template <class T>
struct Bits : testing::Test {};
using Types = testing::Types<float, Half, BFloat16>;
TYPED_TEST_SUITE(Bits, Types);

// On the CPU an epilogue gives the bits of the ops apart.
TYPED_TEST(Bits, OfTheOpsApart) {
  MEMWALL_CPU_ONLY("it rounds between the two");
  using T = TypeParam;
  constexpr DType kType = std::is_same_v<T, float>  ? DType::kF32
                          : std::is_same_v<T, Half> ? DType::kF16
                                                    : DType::kBF16;
  constexpr Sizes s{1, 40, 48, 300};
  const Attributes product = product_of(s, false);
  RowsAttributes rows;
  rows.rows = s.m, rows.width = rows.stride = s.n;
  const Attributes by_rows = rows, none = NoAttributes{};
  auto a = of_type<T>(noise(s.m * s.k, 1)), b = of_type<T>(noise(s.k * s.n, 2));
  auto bias = of_type<T>(noise(s.n, 3));
  std::vector<std::byte> workspace(
      at(gemm_workspace_bytes(product_of(s, false), kType, kType, kType)));
  const auto tensor = [&](std::vector<T>& v) {
    return Tensor{v.data(), kType, {static_cast<int64_t>(v.size())}};
  };
  const auto call = [&](Op op, const Attributes& attributes, const std::vector<Tensor>& inputs,
                        const std::vector<Tensor>& outputs) {
    kernel_of(op)({.attributes = attributes,
                   .inputs = inputs,
                   .outputs = outputs,
                   .unit = nullptr,
                   .workspace = workspace,
                   .threads = 2});
  };
  const auto same = [](const std::vector<T>& x, const std::vector<T>& y) {
    return std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
  };
  std::vector<T> c(at(s.m * s.n)), h = c, y = c, got = c, got_y = c;
  call(Op::kGemm, product, {tensor(a), tensor(b)}, {tensor(c)});
  call(Op::kBias, by_rows, {tensor(c), tensor(bias)}, {tensor(h)});
  call(Op::kGelu, none, {tensor(h)}, {tensor(y)});
  call(Op::kGemmBias, product, {tensor(a), tensor(b), tensor(bias)}, {tensor(got)});
  EXPECT_TRUE(same(got, h));
  call(Op::kGemmBiasGelu, product, {tensor(a), tensor(b), tensor(bias)},
       {tensor(got), tensor(got_y)});
  EXPECT_TRUE(same(got, h));
  EXPECT_TRUE(same(got_y, y));
  call(Op::kGeluGrad, none, {tensor(c), tensor(h)}, {tensor(y)});
  call(Op::kGemmGeluGrad, product, {tensor(a), tensor(b), tensor(h)}, {tensor(got)});
  EXPECT_TRUE(same(got, y));
}

}  // namespace
}  // namespace memwall::test
