#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/workspace.h"
#include "tests/kernels/op_case.h"

namespace memwall::test {
namespace {

RowsAttributes rows_attributes(int64_t batch, int64_t rows, int64_t width) {
  RowsAttributes a;
  a.batch = batch, a.rows = rows, a.width = a.stride = width;
  return a;
}

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

constexpr double kEpsilon = 1e-5;

struct Statistics {
  Values mean, rstd;
};

Statistics statistics_of(const Values& x, int64_t rows, int64_t width) {
  Statistics s;
  for (int64_t r = 0; r < rows; ++r) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < width; ++c) mean += x[at(r * width + c)] / double(width);
    for (int64_t c = 0; c < width; ++c) {
      variance += std::pow(x[at(r * width + c)] - mean, 2) / double(width);
    }
    s.mean.push_back(mean);
    s.rstd.push_back(1.0 / std::sqrt(variance + kEpsilon));
  }
  return s;
}

constexpr int64_t kRows = 27;
constexpr int64_t kWidths[] = {1, 7, 16, 64, 100, 768, 1030};

TEST(Rows, LayerNorm) {
  for (int64_t width : kWidths) {
    OpCase c;
    c.name = "width " + std::to_string(width);
    c.op = Op::kLayerNorm;
    RowsAttributes a = rows_attributes(1, kRows, width);
    a.epsilon = kEpsilon;
    c.attributes = a;
    Values x = noise(kRows * width, 1);
    for (double& v : x) v += 1.5;
    c.inputs = {input({kRows, width}, x), input({width}, noise(width, 2)),
                input({width}, noise(width, 3))};
    c.outputs = {output({kRows, width}), output({kRows}, Kind::kStatistic),
                 output({kRows}, Kind::kStatistic)};
    c.in_place = {{0, 0}};
    c.reference = [width](const std::vector<Values>& in) {
      const Statistics s = statistics_of(in[0], kRows, width);
      Values y = in[0];
      for (int64_t i = 0; i < kRows * width; ++i) {
        y[at(i)] =
            (y[at(i)] - s.mean[at(i / width)]) * s.rstd[at(i / width)] * in[1][at(i % width)] +
            in[2][at(i % width)];
      }
      return std::vector<Values>{y, s.mean, s.rstd};
    };
    // With one column rstd is 1 / sqrt(epsilon), which magnifies the rounding of the mean.
    c.tolerance_f32 = 1e-5;
    expect_correct(c);
  }
}

TEST(Rows, LayerNormGrad) {
  for (int64_t width : kWidths) {
    if (width == 1) continue;  // the gradient is zero, times 1 / sqrt(epsilon)
    OpCase c;
    c.name = "width " + std::to_string(width);
    c.op = Op::kLayerNormGrad;
    c.attributes = rows_attributes(1, kRows, width);
    const Values x = noise(kRows * width, 1);
    const Statistics s = statistics_of(x, kRows, width);
    c.inputs = {input({kRows, width}, noise(kRows * width, 4)), input({kRows, width}, x),
                input({width}, noise(width, 2)), input({kRows}, s.mean, Kind::kStatistic),
                input({kRows}, s.rstd, Kind::kStatistic)};
    c.outputs = {output({kRows, width})};
    c.in_place = {{0, 0}, {0, 1}};
    c.reference = [width](const std::vector<Values>& in) {
      Values dx(in[0].size());
      for (int64_t r = 0; r < kRows; ++r) {
        double mean_g = 0, mean_gx = 0;
        const auto xhat = [&](int64_t i) { return (in[1][at(i)] - in[3][at(r)]) * in[4][at(r)]; };
        const auto g = [&](int64_t i) { return in[0][at(i)] * in[2][at(i % width)]; };
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
          mean_g += g(i) / double(width);
          mean_gx += g(i) * xhat(i) / double(width);
        }
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
          dx[at(i)] = in[4][at(r)] * (g(i) - mean_g - xhat(i) * mean_gx);
        }
      }
      return std::vector<Values>{dx};
    };
    c.also_wide = true;
    expect_correct(c);
    c.accumulate = true;
    c.in_place.clear();
    expect_correct(c);
  }
}

TEST(Rows, LayerNormScaleGrad) {
  for (int64_t rows : {1, 63, 64, 65, 200}) {
    constexpr int64_t kWidth = 157;
    OpCase c;
    c.name = "rows " + std::to_string(rows);
    c.op = Op::kLayerNormScaleGrad;
    c.attributes = rows_attributes(1, rows, kWidth);
    c.inputs = {input({rows, kWidth}, noise(rows * kWidth, 1)),
                input({rows, kWidth}, noise(rows * kWidth, 2)),
                input({rows}, noise(rows, 3), Kind::kStatistic),
                input({rows}, noise(rows, 4), Kind::kStatistic)};
    c.outputs = {output({kWidth})};
    c.reference = [rows](const std::vector<Values>& in) {
      Values sums(kWidth, 0.0);
      for (int64_t i = 0; i < rows * kWidth; ++i) {
        sums[at(i % kWidth)] +=
            in[0][at(i)] * (in[1][at(i)] - in[2][at(i / kWidth)]) * in[3][at(i / kWidth)];
      }
      return std::vector<Values>{sums};
    };
    c.also_wide = true;
    for (bool accumulate : {false, true}) {
      c.accumulate = accumulate;
      expect_correct(c);
    }
  }
}

TEST(Rows, ColumnSum) {
  for (const auto& [batch, rows, width] :
       {std::array<int64_t, 3>{1, 1, 5}, {3, 64, 48}, {2, 130, 33}, {1, 65, 1100}, {1, 4, 9000}}) {
    OpCase c;
    c.name = std::to_string(batch) + "," + std::to_string(rows) + "," + std::to_string(width);
    c.op = Op::kColumnSum;
    c.attributes = rows_attributes(batch, rows, width);
    c.inputs = {input({batch, rows, width}, noise(batch * rows * width, 1))};
    c.outputs = {output({batch, width})};
    c.reference = [b = batch, r = rows, w = width](const std::vector<Values>& in) {
      Values sums(at(b * w), 0.0);
      for (int64_t i = 0; i < b * r * w; ++i) sums[at(i / (r * w) * w + i % w)] += in[0][at(i)];
      return std::vector<Values>{sums};
    };
    c.also_wide = true;
    for (bool accumulate : {false, true}) {
      c.accumulate = accumulate;
      expect_correct(c);
    }
  }
}

// The order of a column sum: rows of a block one after the other, then the blocks.
TEST(Rows, ColumnSumsInBlocksOf64Rows) {
  constexpr int64_t kHeight = 150;
  OpCase c;
  c.op = Op::kColumnSum;
  c.attributes = rows_attributes(1, kHeight, 1);
  c.inputs = {input({kHeight, 1}, noise(kHeight, 1))};
  c.outputs = {output({1})};
  float total = 0.0f;
  for (int64_t block = 0; block < kHeight; block += 64) {
    float partial = 0.0f;
    for (int64_t r = block; r < std::min(kHeight, block + 64); ++r) {
      partial += static_cast<float>(c.inputs[0].values[at(r)]);
    }
    total += partial;
  }
  const auto bytes = run(c, DType::kF32, 0, 1, {})[0];
  EXPECT_EQ(*reinterpret_cast<const float*>(bytes.data()), total);
}

struct Causal {
  int64_t heads, rows, width, stride, period, iteration;
  int64_t query(int64_t row) const { return iteration % period * rows + row % rows; }
  int64_t block_end() const { return std::min((iteration % period + 1) * rows, width); }
  int64_t visible(int64_t row) const { return std::min(query(row) + 1, width); }
  OpCase op_case(Op op) const {
    OpCase c;
    c.name = std::to_string(rows) + "x" + std::to_string(width) + " iteration " +
             std::to_string(iteration);
    c.op = op;
    RowsAttributes a = rows_attributes(heads, rows, width);
    a.stride = stride, a.period = period;
    c.attributes = a;
    c.iteration = iteration;
    c.outputs = {output({heads, rows, stride})};
    c.in_place = {{0, 0}};
    return c;
  }
  // Values everywhere a kernel may look, not-a-numbers where it must not.
  Values visible_noise(uint32_t stream, double scale) const {
    Values x = noise(heads * rows * stride, stream, scale);
    for (size_t i = 0; i < x.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / stride,
                    column = static_cast<int64_t>(i) % stride;
      if (column >= visible(row)) x[i] = std::numeric_limits<double>::quiet_NaN();
    }
    return x;
  }
};

const Causal kCausal[] = {{2, 9, 9, 9, 1, 0},
                          {3, 8, 32, 32, 4, 0},
                          {3, 8, 32, 40, 4, 6},
                          {2, 50, 200, 200, 4, 3},
                          {1, 64, 300, 320, 5, 9},
                          {2, 1, 77, 77, 77, 40},
                          {1, 2, 2500, 2500, 1250, 1249}};

TEST(Rows, CausalSoftmax) {
  for (const Causal& shape : kCausal) {
    OpCase c = shape.op_case(Op::kCausalSoftmax);
    c.inputs = {input({shape.heads, shape.rows, shape.stride}, shape.visible_noise(1, 8.0))};
    // In place the columns nobody may write hold what the scores hold.
    c.outputs[0].values = c.inputs[0].values;
    c.reference = [shape](const std::vector<Values>& in) {
      Values p(in[0].size(), kUntouched);
      for (int64_t row = 0; row < shape.heads * shape.rows; ++row) {
        const int64_t first = row * shape.stride, n = shape.visible(row);
        double total = 0;
        for (int64_t i = first; i < first + n; ++i) total += std::exp(in[0][at(i)]);
        for (int64_t i = 0; i < shape.block_end(); ++i) {
          p[at(first + i)] = i < n ? std::exp(in[0][at(first + i)]) / total : 0.0;
        }
      }
      return std::vector<Values>{p};
    };
    expect_correct(c);
  }
}

TEST(Rows, SoftmaxGrad) {
  for (const Causal& shape : kCausal) {
    OpCase c = shape.op_case(Op::kSoftmaxGrad);
    c.inputs = {input({shape.heads, shape.rows, shape.stride}, shape.visible_noise(1, 1.0)),
                input({shape.heads, shape.rows, shape.stride}, shape.visible_noise(2, 1.0))};
    c.outputs[0].values = c.inputs[0].values;
    c.reference = [shape](const std::vector<Values>& in) {
      Values ds(in[0].size(), kUntouched);
      for (int64_t row = 0; row < shape.heads * shape.rows; ++row) {
        const int64_t first = row * shape.stride, n = shape.visible(row);
        double sum = 0;
        for (int64_t i = first; i < first + n; ++i) sum += in[0][at(i)] * in[1][at(i)];
        for (int64_t i = 0; i < shape.block_end(); ++i) {
          ds[at(first + i)] = i < n ? in[1][at(first + i)] * (in[0][at(first + i)] - sum) : 0.0;
        }
      }
      return std::vector<Values>{ds};
    };
    expect_correct(c);
  }
}

TEST(Rows, Embedding) {
  for (int64_t width : {1, 48, 100, 770}) {
    constexpr int64_t kTokens = 50, kTable = 11;
    OpCase c;
    c.op = Op::kEmbedding;
    c.attributes = rows_attributes(1, kTokens, width);
    c.inputs = {input({kTokens}, whole_numbers(kTokens, 1, kTable), Kind::kI32),
                input({kTable, width}, noise(kTable * width, 2))};
    c.outputs = {output({kTokens, width})};
    c.tolerance_f32 = c.tolerance_f64 = 0.0;
    c.reference = [width](const std::vector<Values>& in) {
      Values y(at(kTokens * width));
      for (int64_t i = 0; i < kTokens * width; ++i) {
        y[at(i)] = in[1][at(static_cast<int64_t>(in[0][at(i / width)]) * width + i % width)];
      }
      return std::vector<Values>{y};
    };
    expect_correct(c);
  }
}

TEST(Rows, EmbeddingGrad) {
  for (int64_t width : {1, 48, 100, 770}) {
    constexpr int64_t kTokens = 90, kTable = 40;  // the last rows of the table without tokens
    OpCase c;
    c.op = Op::kEmbeddingGrad;
    c.attributes = rows_attributes(1, kTokens, width);
    c.inputs = {input({kTokens}, whole_numbers(kTokens, 1, kTable - 9), Kind::kI32),
                input({kTokens, width}, noise(kTokens * width, 2))};
    c.outputs = {output({kTable, width})};
    c.workspace_bytes = embedding_grad_workspace_bytes(kTable, kTokens);
    c.reference = [width](const std::vector<Values>& in) {
      Values table(at(kTable * width), 0.0);
      for (int64_t i = 0; i < kTokens * width; ++i) {
        table[at(static_cast<int64_t>(in[0][at(i / width)]) * width + i % width)] += in[1][at(i)];
      }
      return std::vector<Values>{table};
    };
    c.also_wide = true;
    for (bool accumulate : {false, true}) {
      c.accumulate = accumulate;
      expect_correct(c);
    }
  }
}

struct Logits {
  int64_t rows, width, stride;
  double scale;
  double lift = 0.0;  // of the targets
};
const Logits kLogits[] = {{5, 3, 64, 1.0},
                          {40, 7, 64, 1.0, 5.0},
                          {13, 1000, 1024, 30.0},
                          {4, 1024, 1024, 3.0},
                          {9, 2001, 2048, 300.0}};

OpCase cross_entropy_case(const Logits& shape, Op op) {
  OpCase c;
  c.name = std::to_string(shape.rows) + "x" + std::to_string(shape.width);
  c.op = op;
  RowsAttributes a = rows_attributes(1, shape.rows, shape.width);
  a.stride = shape.stride;
  c.attributes = a;
  Values logits = noise(shape.rows * shape.stride, 1, shape.scale);
  for (int64_t i = 0; i < shape.rows * shape.stride; ++i) {
    if (i % shape.stride >= shape.width) logits[at(i)] = std::numeric_limits<double>::quiet_NaN();
  }
  const Values targets = whole_numbers(shape.rows, 2, shape.width);
  for (int64_t row = 0; row < shape.rows; ++row) {
    logits[at(row * shape.stride + static_cast<int64_t>(targets[at(row)]))] += shape.lift;
  }
  c.inputs = {input({shape.rows, shape.stride}, logits), input({shape.rows}, targets, Kind::kI32)};
  return c;
}

Values log_sum_exp(const Values& logits, const Logits& shape) {
  Values out;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const auto begin = logits.begin() + row * shape.stride;
    const double peak = *std::max_element(begin, begin + shape.width);
    double total = 0;
    for (int64_t i = 0; i < shape.width; ++i) total += std::exp(begin[i] - peak);
    out.push_back(peak + std::log(total));
  }
  return out;
}

TEST(Rows, CrossEntropy) {
  for (const Logits& shape : kLogits) {
    OpCase c = cross_entropy_case(shape, Op::kCrossEntropy);
    c.outputs = {output({shape.rows}, Kind::kStatistic), output({shape.rows}, Kind::kStatistic)};
    c.tolerance_f32 = 1e-6 * (10.0 + shape.scale);
    c.tolerance_f64 = 1e-12;
    c.reference = [shape](const std::vector<Values>& in) {
      const Values lse = log_sum_exp(in[0], shape);
      Values loss;
      for (int64_t r = 0; r < shape.rows; ++r) {
        loss.push_back(lse[at(r)] -
                       in[0][at(r * shape.stride + static_cast<int64_t>(in[1][at(r)]))]);
      }
      return std::vector<Values>{loss, lse};
    };
    expect_correct(c);
  }
}

TEST(Rows, CrossEntropyGrad) {
  for (const Logits& shape : kLogits) {
    OpCase c = cross_entropy_case(shape, Op::kCrossEntropyGrad);
    const Values lse = log_sum_exp(c.inputs[0].values, shape);
    c.inputs.insert(c.inputs.begin(), input({shape.rows}, noise(shape.rows, 3), Kind::kStatistic));
    c.inputs.push_back(input({shape.rows}, lse, Kind::kStatistic));
    c.outputs = {output({shape.rows, shape.stride})};
    c.in_place = {{0, 1}};
    c.tolerance_f32 = 1e-6 * (10.0 + shape.scale);
    c.reference = [shape](const std::vector<Values>& in) {
      Values d(in[1].size(), 0.0);
      for (int64_t r = 0; r < shape.rows; ++r) {
        for (int64_t i = 0; i < shape.width; ++i) {
          const double onehot = static_cast<double>(i) == in[2][at(r)] ? 1.0 : 0.0;
          const size_t e = at(r * shape.stride + i);
          d[e] = (std::exp(in[1][e] - in[3][at(r)]) - onehot) * in[0][at(r)];
        }
      }
      return std::vector<Values>{d};
    };
    expect_correct(c);
  }
}

}  // namespace
}  // namespace memwall::test
