// Tangents: against the derivatives written out in double precision, and against central
// differences of the plain kernels in FP64. op_case compares the values with the plain call's bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"
#include "runtime/kernels/dual.h"
#include "tests/kernels/op_case.h"

namespace memwall::test {
namespace {

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

// What a derivative is written in: the op's inputs, and the tangent of each (of integers: none).
using Tangents =
    std::function<std::vector<Values>(const std::vector<Values>& in, const std::vector<Values>& d)>;

// The dual case of a plain one. A tangent is not a number where its value is not.
OpCase dual_case(const OpCase& plain, const Tangents& tangents) {
  OpCase c = plain;
  c.dual = true;
  uint32_t stream = 100;
  for (const Data& in : plain.inputs) {
    if (!has_tangent(in)) continue;
    Data tangent = input(in.shape, noise(in.shape.elements(), ++stream), in.kind);
    for (size_t i = 0; i < in.values.size(); ++i) {
      if (std::isnan(in.values[i])) tangent.values[i] = in.values[i];
    }
    c.inputs.push_back(tangent);
  }
  for (const Data& out : plain.outputs) {
    c.outputs.push_back({out.kind, out.shape, noise(out.shape.elements(), ++stream, 3.0)});
  }
  // Columns that nobody may write keep what lies there, in place what the input holds.
  for (const auto& [o, i] : plain.in_place) {
    if (o == 0 && i == 0)
      c.outputs[plain.outputs.size()].values = c.inputs[plain.inputs.size()].values;
  }
  c.reference = [tangents, inputs = plain.inputs](const std::vector<Values>& all) {
    const auto values_end = all.begin() + static_cast<std::ptrdiff_t>(inputs.size());
    std::vector<Values> d;
    auto next = values_end;
    for (const Data& in : inputs) d.push_back(has_tangent(in) ? *next++ : Values{});
    return tangents({all.begin(), values_end}, d);
  };
  return c;
}

Values f64_results(const OpCase& c, size_t output) {
  const auto bytes = run(c, DType::kF64, 0, 1, {})[output];
  Values out(bytes.size() / sizeof(double));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

// (f(x + h x') - f(x - h x')) / 2h of the plain kernel: its error is about h^2 and 1e-16 / h.
void expect_near_differences(const OpCase& dual) {
  constexpr double kStep = 1e-5;
  const auto shifted = [&](double step) {
    OpCase c = plain_case(dual);
    size_t tangent = c.inputs.size();
    for (Data& in : c.inputs) {
      if (!has_tangent(in)) continue;
      const Values& d = dual.inputs[tangent++].values;
      for (size_t i = 0; i < d.size(); ++i) in.values[i] += step * d[i];
    }
    return c;
  };
  const OpCase above = shifted(kStep), below = shifted(-kStep);
  const size_t results = above.outputs.size();
  std::vector<Values> all;
  for (const Data& in : dual.inputs) all.push_back(in.values);
  const std::vector<Values> expected = dual.reference(all);
  for (size_t o = 0; o < results; ++o) {
    const Values high = f64_results(above, o), low = f64_results(below, o);
    const Values tangent = f64_results(dual, results + o);
    double largest = 0.0, error = 0.0;
    for (size_t i = 0; i < tangent.size(); ++i) {
      if (std::isnan(expected[o][i])) continue;  // left as it was
      largest = std::max(largest, std::abs(tangent[i]));
      error = std::max(error, std::abs((high[i] - low[i]) / (2 * kStep) - tangent[i]));
    }
    EXPECT_LE(error, 1e-7 * largest) << op_name(dual.op) << " " << dual.name << " output " << o;
  }
}

void expect_dual_correct(const OpCase& plain, const Tangents& tangents) {
  const OpCase c = dual_case(plain, tangents);
  expect_correct(c);
  expect_near_differences(c);
}

// And of one whose first result may add.
void expect_dual_correct_and_adding(OpCase plain, const Tangents& tangents) {
  expect_dual_correct(plain, tangents);
  plain.in_place.clear();
  plain.accumulate = true;
  expect_correct(dual_case(plain, tangents));
}

RowsAttributes rows_attributes(int64_t batch, int64_t rows, int64_t width, int64_t stride = 0) {
  RowsAttributes a;
  a.batch = batch, a.rows = rows, a.width = width, a.stride = stride > 0 ? stride : width;
  return a;
}

constexpr int64_t kRows = 27;
constexpr double kEpsilon = 1e-5;

double mean_of_row(const std::function<double(int64_t)>& f, int64_t row, int64_t width) {
  double total = 0;
  for (int64_t i = row * width; i < (row + 1) * width; ++i) total += f(i);
  return total / static_cast<double>(width);
}

TEST(Dual, LayerNorm) {
  for (int64_t width : {1, 7, 16, 100, 768}) {
    OpCase c;
    c.name = "width " + std::to_string(width);
    c.op = Op::kLayerNorm;
    RowsAttributes a = rows_attributes(1, kRows, width);
    a.epsilon = kEpsilon;
    c.attributes = a;
    Values shifted = noise(kRows * width, 1);
    for (double& v : shifted) v += 1.5;
    c.inputs = {input({kRows, width}, shifted), input({width}, noise(width, 2)),
                input({width}, noise(width, 3))};
    c.outputs = {output({kRows, width}), output({kRows}, Kind::kStatistic),
                 output({kRows}, Kind::kStatistic)};
    c.in_place = {{0, 0}};
    expect_dual_correct(c, [width](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values dy(at(kRows * width)), dmean, drstd;
      const auto x = [&](int64_t i) { return in[0][at(i)]; };
      const auto dx = [&](int64_t i) { return d[0][at(i)]; };
      for (int64_t row = 0; row < kRows; ++row) {
        const double m = mean_of_row(x, row, width), dm = mean_of_row(dx, row, width);
        const auto square = [&](int64_t i) { return (x(i) - m) * (x(i) - m); };
        const auto product = [&](int64_t i) { return (x(i) - m) * dx(i); };
        const double r = 1.0 / std::sqrt(mean_of_row(square, row, width) + kEpsilon);
        const double dr = -r * r * r * mean_of_row(product, row, width);
        for (int64_t column = 0; column < width; ++column) {
          const int64_t i = row * width + column;
          dy[at(i)] = ((dx(i) - dm) * r + (x(i) - m) * dr) * in[1][at(column)] +
                      (x(i) - m) * r * d[1][at(column)] + d[2][at(column)];
        }
        dmean.push_back(dm);
        drstd.push_back(dr);
      }
      return std::vector<Values>{dy, dmean, drstd};
    });
  }
}

TEST(Dual, LayerNormGrad) {
  for (int64_t width : {7, 64, 100, 768}) {
    OpCase c;
    c.name = "width " + std::to_string(width);
    c.op = Op::kLayerNormGrad;
    c.attributes = rows_attributes(1, kRows, width);
    // The statistics are inputs like others: they need not be those of x.
    c.inputs = {input({kRows, width}, noise(kRows * width, 4)),
                input({kRows, width}, noise(kRows * width, 1)), input({width}, noise(width, 2)),
                input({kRows}, noise(kRows, 3, 0.1), Kind::kStatistic),
                input({kRows}, noise(kRows, 5, 2.0), Kind::kStatistic)};
    c.outputs = {output({kRows, width})};
    c.in_place = {{0, 0}, {0, 1}};
    c.also_wide = true;
    const auto tangents = [width](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values ddx(in[0].size());
      for (int64_t row = 0; row < kRows; ++row) {
        const double m = in[3][at(row)], r = in[4][at(row)], dm = d[3][at(row)], dr = d[4][at(row)];
        const auto g = [&](int64_t i) { return in[0][at(i)] * in[2][at(i % width)]; };
        const auto dg = [&](int64_t i) {
          return d[0][at(i)] * in[2][at(i % width)] + in[0][at(i)] * d[2][at(i % width)];
        };
        const auto xhat = [&](int64_t i) { return (in[1][at(i)] - m) * r; };
        const auto dxhat = [&](int64_t i) {
          return (d[1][at(i)] - dm) * r + (in[1][at(i)] - m) * dr;
        };
        const double mean = mean_of_row(g, row, width), dmean = mean_of_row(dg, row, width);
        const double both = mean_of_row([&](int64_t i) { return g(i) * xhat(i); }, row, width);
        const double dboth =
            mean_of_row([&](int64_t i) { return dg(i) * xhat(i) + g(i) * dxhat(i); }, row, width);
        for (int64_t i = row * width; i < (row + 1) * width; ++i) {
          ddx[at(i)] = dr * (g(i) - mean - xhat(i) * both) +
                       r * (dg(i) - dmean - dxhat(i) * both - xhat(i) * dboth);
        }
      }
      return std::vector<Values>{ddx};
    };
    expect_dual_correct_and_adding(c, tangents);
  }
}

TEST(Dual, LayerNormScaleGrad) {
  constexpr int64_t kWidth = 157;
  for (int64_t rows : {1, 64, 65, 200}) {
    OpCase c;
    c.name = "rows " + std::to_string(rows);
    c.op = Op::kLayerNormScaleGrad;
    c.attributes = rows_attributes(1, rows, kWidth);
    c.inputs = {input({rows, kWidth}, noise(rows * kWidth, 1)),
                input({rows, kWidth}, noise(rows * kWidth, 2)),
                input({rows}, noise(rows, 3), Kind::kStatistic),
                input({rows}, noise(rows, 4), Kind::kStatistic)};
    c.outputs = {output({kWidth})};
    c.also_wide = true;
    expect_dual_correct_and_adding(
        c, [rows](const std::vector<Values>& in, const std::vector<Values>& d) {
          Values sums(kWidth, 0.0);
          for (int64_t i = 0; i < rows * kWidth; ++i) {
            const size_t e = at(i), row = at(i / kWidth);
            const double centred = in[1][e] - in[2][row], r = in[3][row];
            sums[at(i % kWidth)] += d[0][e] * centred * r + in[0][e] * (d[1][e] - d[2][row]) * r +
                                    in[0][e] * centred * d[3][row];
          }
          return std::vector<Values>{sums};
        });
  }
}

constexpr int64_t kCount = 20011;        // several tiles, no multiple of anything
constexpr double kLargeArguments = 1e4;  // a difference of 1e-5 would lose seven digits

// The derivatives of x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3).
struct GeluDerivatives {
  double first, second;
};
GeluDerivatives gelu_derivatives(double x) {
  const double k = std::sqrt(2.0 / M_PI), t = std::tanh(k * (x + 0.044715 * x * x * x));
  const double u1 = k * (1.0 + 3 * 0.044715 * x * x), u2 = k * 6 * 0.044715 * x;
  const double t1 = 1.0 - t * t;
  return {0.5 * (1.0 + t) + 0.5 * x * t1 * u1,
          t1 * u1 + 0.5 * x * (t1 * u2 - 2.0 * t * t1 * u1 * u1)};
}

TEST(Dual, Gelu) {
  for (double scale : {1.0, 9.0, kLargeArguments}) {
    OpCase c;
    c.name = "scale " + std::to_string(scale);
    c.op = Op::kGelu;
    c.inputs = {input({kCount}, noise(kCount, 1, scale))};
    c.outputs = {output({kCount})};
    c.in_place = {{0, 0}};
    const auto tangents = [](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values dy = d[0];
      for (size_t i = 0; i < dy.size(); ++i) dy[i] *= gelu_derivatives(in[0][i]).first;
      return std::vector<Values>{dy};
    };
    expect_correct(dual_case(c, tangents));
    if (scale < kLargeArguments) expect_near_differences(dual_case(c, tangents));
  }
}

TEST(Dual, GeluGrad) {
  for (double scale : {1.0, 9.0, kLargeArguments}) {
    OpCase c;
    c.name = "scale " + std::to_string(scale);
    c.op = Op::kGeluGrad;
    c.inputs = {input({kCount}, noise(kCount, 1)), input({kCount}, noise(kCount, 2, scale))};
    c.outputs = {output({kCount})};
    c.in_place = {{0, 0}, {0, 1}};
    // Around x = 5 the rounding of 1 - s in FP32, 3e-8, is multiplied with x (2u)'^2 = 240.
    c.tolerance_f32 = 3e-5;
    const auto tangents = [](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values ddx(in[0].size());
      for (size_t i = 0; i < ddx.size(); ++i) {
        const GeluDerivatives gelu = gelu_derivatives(in[1][i]);
        ddx[i] = d[0][i] * gelu.first + in[0][i] * gelu.second * d[1][i];
      }
      return std::vector<Values>{ddx};
    };
    expect_correct(dual_case(c, tangents));
    if (scale < kLargeArguments) expect_near_differences(dual_case(c, tangents));
  }
}

// Rows of queries of a chunk, as in softmax.h.
struct Causal {
  int64_t heads, rows, width, stride, period, iteration;

  int64_t chunk() const { return iteration % period; }
  int64_t block_end() const { return std::min((chunk() + 1) * rows, width); }
  int64_t visible(int64_t row) const { return std::min(chunk() * rows + row % rows + 1, width); }
  int64_t elements() const { return heads * rows * stride; }

  OpCase op_case(Op op, std::vector<double> scales) const {
    OpCase c;
    c.name = std::to_string(rows) + "x" + std::to_string(width) + " iteration " +
             std::to_string(iteration);
    c.op = op;
    RowsAttributes a = rows_attributes(heads, rows, width, stride);
    a.period = period;
    c.attributes = a;
    c.iteration = iteration;
    for (double scale : scales) {
      Values x = noise(elements(), static_cast<uint32_t>(c.inputs.size()) + 1, scale);
      for (int64_t i = 0; i < elements(); ++i) {  // where a kernel must not look
        if (i % stride >= visible(i / stride)) x[at(i)] = std::nan("");
      }
      c.inputs.push_back(input({heads, rows, stride}, x));
    }
    c.outputs = {output({heads, rows, stride})};
    c.outputs[0].values = c.inputs[0].values;
    c.in_place = {{0, 0}};
    return c;
  }

  // f(first, count) gives the tangents of the `count` visible elements of a row.
  Values by_row(const std::function<Values(size_t first, int64_t count)>& f) const {
    Values out(at(elements()), kUntouched);
    for (int64_t row = 0; row < heads * rows; ++row) {
      const Values tangents = f(at(row * stride), visible(row));
      for (int64_t i = 0; i < block_end(); ++i) {
        out[at(row * stride + i)] = i < visible(row) ? tangents[at(i)] : 0.0;
      }
    }
    return out;
  }
};

const Causal kCausal[] = {{2, 9, 9, 9, 1, 0},      {3, 8, 32, 32, 4, 0},    {3, 8, 32, 40, 4, 6},
                          {2, 50, 200, 200, 4, 3}, {1, 64, 300, 320, 5, 9}, {2, 1, 77, 77, 77, 40}};

TEST(Dual, CausalSoftmax) {
  for (const Causal& shape : kCausal) {
    const OpCase c = shape.op_case(Op::kCausalSoftmax, {8.0});
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      return std::vector<Values>{shape.by_row([&](size_t first, int64_t count) {
        Values p(at(count));
        double total = 0, mean = 0;
        for (size_t i = 0; i < p.size(); ++i) total += p[i] = std::exp(in[0][first + i]);
        for (size_t i = 0; i < p.size(); ++i) mean += (p[i] /= total) * d[0][first + i];
        for (size_t i = 0; i < p.size(); ++i) p[i] *= d[0][first + i] - mean;
        return p;
      })};
    });
  }
}

TEST(Dual, SoftmaxGrad) {
  for (const Causal& shape : kCausal) {
    const OpCase c = shape.op_case(Op::kSoftmaxGrad, {1.0, 1.0});
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      return std::vector<Values>{shape.by_row([&](size_t first, int64_t count) {
        Values out(at(count));
        double sum = 0, dsum = 0;
        for (size_t e = first; e < first + out.size(); ++e) {
          sum += in[0][e] * in[1][e];
          dsum += d[0][e] * in[1][e] + in[0][e] * d[1][e];
        }
        for (size_t i = 0, e = first; i < out.size(); ++i, ++e) {
          out[i] = d[1][e] * (in[0][e] - sum) + in[1][e] * (d[0][e] - dsum);
        }
        return out;
      })};
    });
  }
}

struct Logits {
  int64_t rows, width, stride;
  double scale;
};
const Logits kLogits[] = {{5, 3, 64, 1.0},
                          {40, 7, 64, 1.0},
                          {13, 1000, 1024, 5.0},
                          {4, 1024, 1024, 3.0},
                          {9, 2001, 2048, 30.0}};

OpCase cross_entropy_case(const Logits& shape, Op op) {
  OpCase c;
  c.name = std::to_string(shape.rows) + "x" + std::to_string(shape.width);
  c.op = op;
  c.attributes = rows_attributes(1, shape.rows, shape.width, shape.stride);
  Values logits = noise(shape.rows * shape.stride, 1, shape.scale);
  for (int64_t i = 0; i < shape.rows * shape.stride; ++i) {
    if (i % shape.stride >= shape.width) logits[at(i)] = std::nan("");
  }
  c.inputs = {input({shape.rows, shape.stride}, logits),
              input({shape.rows}, whole_numbers(shape.rows, 2, shape.width), Kind::kI32)};
  c.tolerance_f32 = 1e-6 * (10.0 + shape.scale);
  return c;
}

TEST(Dual, CrossEntropy) {
  for (const Logits& shape : kLogits) {
    OpCase c = cross_entropy_case(shape, Op::kCrossEntropy);
    c.outputs = {output({shape.rows}, Kind::kStatistic), output({shape.rows}, Kind::kStatistic)};
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values dloss, dlse;
      for (int64_t row = 0; row < shape.rows; ++row) {
        const size_t first = at(row * shape.stride);
        double total = 0, weighted = 0;
        for (size_t e = first; e < first + at(shape.width); ++e) {
          total += std::exp(in[0][e]);
          weighted += std::exp(in[0][e]) * d[0][e];
        }
        dlse.push_back(weighted / total);
        dloss.push_back(weighted / total - d[0][first + static_cast<size_t>(in[1][at(row)])]);
      }
      return std::vector<Values>{dloss, dlse};
    });
  }
}

TEST(Dual, CrossEntropyGrad) {
  for (const Logits& shape : kLogits) {
    OpCase c = cross_entropy_case(shape, Op::kCrossEntropyGrad);
    Values lse;
    for (int64_t row = 0; row < shape.rows; ++row) {
      double total = 0;
      for (int64_t i = 0; i < shape.width; ++i) {
        total += std::exp(c.inputs[0].values[at(row * shape.stride + i)]);
      }
      lse.push_back(std::log(total));
    }
    c.inputs.insert(c.inputs.begin(), input({shape.rows}, noise(shape.rows, 3), Kind::kStatistic));
    c.inputs.push_back(input({shape.rows}, lse, Kind::kStatistic));
    c.outputs = {output({shape.rows, shape.stride})};
    c.in_place = {{0, 1}};
    expect_dual_correct(c, [shape](const std::vector<Values>& in, const std::vector<Values>& d) {
      Values out(in[1].size(), 0.0);
      for (int64_t row = 0; row < shape.rows; ++row) {
        for (int64_t i = 0; i < shape.width; ++i) {
          const size_t e = at(row * shape.stride + i), r = at(row);
          const double p = std::exp(in[1][e] - in[3][r]);
          const double onehot = static_cast<double>(i) == in[2][r] ? 1.0 : 0.0;
          out[e] = p * (d[1][e] - d[3][r]) * in[0][r] + (p - onehot) * d[0][r];
        }
      }
      return std::vector<Values>{out};
    });
  }
}

KernelCall dual_call(const Attributes& attributes, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs) {
  return {.attributes = attributes,
          .inputs = inputs,
          .outputs = outputs,
          .workspace = {},
          .dual = true};
}

TEST(Dual, OtherOpsRefuse) {
  for (Op op : {Op::kAdd, Op::kGemm, Op::kDropout, Op::kBiasGelu, Op::kAdamW}) {
    try {
      cpu_kernel(op)(dual_call(NoAttributes{}, {}, {}));
      ADD_FAILURE() << op_name(op) << " ran on dual numbers";
    } catch (const InternalError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(op_name(op))) << error.what();
    }
  }
}

// A call that lacks tangents, or has them in another type, is a defect of its caller.
TEST(Dual, TangentsMustBeThere) {
  std::vector<double> memory(8);
  const Tensor x{memory.data(), DType::kF32, {8}}, wide{memory.data(), DType::kF64, {8}};
  const std::vector<Tensor> one = {x}, two = {x, x}, mixed = {x, wide};
  const Attributes none = NoAttributes{};
  EXPECT_NO_THROW(cpu_kernel(Op::kGelu)(dual_call(none, two, two)));
  EXPECT_THROW(cpu_kernel(Op::kGelu)(dual_call(none, one, two)), InternalError);
  EXPECT_THROW(cpu_kernel(Op::kGelu)(dual_call(none, two, one)), InternalError);
  EXPECT_THROW(cpu_kernel(Op::kGelu)(dual_call(none, mixed, two)), InternalError);
  EXPECT_THROW(cpu_kernel(Op::kGelu)(dual_call(none, two, mixed)), InternalError);
}

}  // namespace
}  // namespace memwall::test
