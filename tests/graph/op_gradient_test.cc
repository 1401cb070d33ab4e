// Every differentiable op by itself, in FP64, against finite differences: a graph whose parameters
// go through the op, and whose loss weighs each element of the result by another parameter.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "comm/self/self_communicator.h"
#include "runtime/base/math.h"
#include "runtime/base/scalars.h"
#include "runtime/exec/executor.h"
#include "runtime/graph/ops/gemm.h"
#include "runtime/passes/compile.h"
#include "runtime/passes/dual.h"

namespace memwall {
namespace {

constexpr int64_t kBatch = 2, kTime = 8;  // tokens, targets and samples that ops may read

// Parameters p0, p1, ... of given shapes, and a result made from them.
struct OpCase {
  std::string name;
  std::vector<Shape> parameters;
  std::function<ValueId(const Scope&, const std::vector<ValueId>&, const ModelInputs&)> build;
  int64_t result_elements;
  friend void PrintTo(const OpCase& c, std::ostream* out) { *out << c.name; }
};

class OneOpModel : public Model {
 public:
  explicit OneOpModel(const OpCase& c) : case_(c) {
    shapes_ = c.parameters;
    shapes_.push_back(Shape{c.result_elements});
  }
  std::vector<Unit> units(int64_t ranks, int64_t alignment) const override {
    Unit unit;
    unit.name = "all";
    int64_t end = 0;
    for (size_t k = 0; k < shapes_.size(); ++k) {
      Segment s;
      s.name = "p" + std::to_string(k);
      s.shape = shapes_[k];
      s.offset = round_up(end, alignment);
      s.count = s.shape.elements();
      s.index = static_cast<uint32_t>(k);
      end = s.offset + s.count;
      unit.parameters += s.count;
      unit.segments.push_back(s);
    }
    unit.padded = round_up(end, ranks * alignment);
    return {unit};
  }
  DType dtype() const override { return DType::kF64; }
  int64_t batch() const override { return kBatch; }
  int64_t time() const override { return kTime; }
  int64_t vocabulary() const override { return 11; }
  bool has_dropout() const override { return true; }
  int64_t flops(int64_t) const override { return 0; }

  ValueId loss_sum(Graph& graph, const ModelInputs& inputs, int64_t) const override {
    const Scope scope{graph, "", Phase::kForward, 0};
    const ValueId buffer = inputs.unit_buffer(scope, 0);
    std::vector<ValueId> p;
    for (size_t k = 0; k < shapes_.size(); ++k) {
      p.push_back(scope.emit("p", Op::kView, ViewAttributes{inputs.units[0].segments[k].offset},
                             {buffer}, {DType::kF64, shapes_[k], Placement::kBatchSplit}));
    }
    const ValueId result = case_.build(scope, p, inputs);
    const Type one{DType::kF64, {1}, Placement::kBatchSplit};
    const ValueId weighed = scope.emit("weigh", Op::kGemm, plain_gemm(1, 1, case_.result_elements),
                                       {result, p.back()}, one);
    return scope.emit("loss", Op::kSum, NoAttributes{}, {weighed});
  }
  ValueId next_token_logits(Graph&, const ModelInputs&, ValueId) const override { return kNoValue; }

 private:
  const OpCase& case_;
  std::vector<Shape> shapes_;
};

// Parameters stand in for data here: rows of a rank's own.
Type type_of(const Shape& shape) {
  return {DType::kF64, shape, Placement::kBatchSplit};
}

RowsAttributes rows(int64_t count, int64_t width, int64_t batch = 1) {
  RowsAttributes r;
  r.batch = batch;
  r.rows = count;
  r.width = r.stride = width;
  r.epsilon = 1e-5;
  return r;
}

GemmAttributes strided(int64_t batch, int64_t m, int64_t n, int64_t k, Strides a, Strides b,
                       Strides c) {
  GemmAttributes g;
  g.batch = batch;
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = a;
  g.b = b;
  g.c = c;
  g.alpha = 0.7;
  return g;
}

OpCase gemm_case(const std::string& name, const GemmAttributes& g, const Shape& a, const Shape& b,
                 const Shape& c) {
  return {name,
          {a, b},
          [=](const Scope& s, const std::vector<ValueId>& p, const ModelInputs&) {
            return s.emit("op", Op::kGemm, g, {p[0], p[1]}, type_of(c));
          },
          c.elements()};
}

// softmax(a b^T) c over blocks of query rows, as attention: limited products, periods 1 and 4.
OpCase chunked_case() {
  constexpr int64_t t = 8, r = 2, d = 3;
  auto body = std::make_shared<Graph>();
  const Scope s{*body, "", Phase::kForward, 0};
  const ValueId q = s.emit("q", Op::kOperand, StateAttributes{0}, {}, type_of({r, d}));
  const ValueId k = s.emit("k", Op::kOperand, StateAttributes{1}, {}, type_of({t, d}));
  const ValueId v = s.emit("v", Op::kOperand, StateAttributes{2}, {}, type_of({t, d}));
  GemmAttributes qk = strided(1, r, t, d, {0, d, 1}, {0, 1, d}, {0, t, 1});
  qk.limit = GemmLimit::kN;
  qk.limit_rows = r;
  qk.limit_period = t / r;
  const ValueId scores = s.emit("scores", Op::kGemm, qk, {q, k}, type_of({r, t}));
  RowsAttributes softmax = rows(r, t);
  softmax.period = t / r;
  const ValueId p = s.emit("softmax", Op::kCausalSoftmax, softmax, {scores});
  GemmAttributes pv = strided(1, r, d, t, {0, t, 1}, {0, d, 1}, {0, d, 1});
  pv.limit = GemmLimit::kK;
  pv.limit_rows = r;
  pv.limit_period = t / r;
  body->outputs.push_back({s.emit("mix", Op::kGemm, pv, {p, v}, type_of({r, d})), -1});
  return {"chunked",
          {{2 * t, d}, {2 * t, d}, {2 * t, d}},
          [body](const Scope& scope, const std::vector<ValueId>& values, const ModelInputs&) {
            Node node;
            node.op = Op::kChunked;
            node.attributes = ChunkedAttributes{2 * t / r, -1};
            node.name = "op";
            node.body = body;
            node.inputs = {values[0], values[1], values[2]};
            node.periods = {1, t / r, t / r, 1};
            const NodeId id = scope.graph.add(std::move(node), {type_of({2 * t, d})});
            return scope.graph.nodes[static_cast<size_t>(id)].outputs[0];
          },
          2 * t * d};
}

std::vector<OpCase> all_cases() {
  using Values = std::vector<ValueId>;
  std::vector<OpCase> cases;
  cases.push_back(gemm_case("gemm", plain_gemm(3, 4, 5), {3, 5}, {5, 4}, {3, 4}));
  cases.push_back(gemm_case("gemm_transposed", strided(1, 3, 4, 5, {0, 5, 1}, {0, 1, 5}, {0, 4, 1}),
                            {3, 5}, {4, 5}, {3, 4}));
  cases.push_back(gemm_case("gemm_heads",  // (rows, heads * size) operands, (heads, rows, rows)
                            strided(2, 3, 3, 4, {4, 8, 1}, {4, 1, 8}, {9, 3, 1}), {3, 8}, {3, 8},
                            {2, 3, 3}));
  cases.push_back(gemm_case("gemm_repeated",  // one input, three parts of one weight
                            strided(3, 4, 2, 5, {0, 5, 1}, {2, 6, 1}, {8, 2, 1}), {4, 5}, {5, 6},
                            {3, 4, 2}));
  cases.push_back({"bias",
                   {{2, 3, 4}, {2, 4}},
                   [](const Scope& s, const Values& p, const ModelInputs&) {
                     return s.emit("op", Op::kBias, rows(3, 4, 2), {p[0], p[1]});
                   },
                   24});
  cases.push_back({"add_and_reuse",
                   {{5}, {5}},
                   [](const Scope& s, const Values& p, const ModelInputs&) {
                     const ValueId sum = s.emit("a", Op::kAdd, NoAttributes{}, {p[0], p[1]});
                     return s.emit("op", Op::kAdd, NoAttributes{}, {sum, p[0]});
                   },
                   5});
  cases.push_back({"copy",
                   {{7}},
                   [](const Scope& s, const Values& p, const ModelInputs&) {
                     return s.emit("op", Op::kCopy, NoAttributes{}, {p[0]});
                   },
                   7});
  cases.push_back({"gelu",
                   {{40}},
                   [](const Scope& s, const Values& p, const ModelInputs&) {
                     return s.emit("op", Op::kGelu, NoAttributes{}, {p[0]});
                   },
                   40});
  cases.push_back(
      {"layer_norm",
       {{6, 20}, {20}, {20}},
       [](const Scope& s, const Values& p, const ModelInputs&) {
         const NodeId id = s.emit_all("op", Op::kLayerNorm, rows(6, 20), {p[0], p[1], p[2]}, {});
         return s.graph.nodes[static_cast<size_t>(id)].outputs[0];
       },
       120});
  cases.push_back({"causal_softmax",
                   {{2, 5, 5}},
                   [](const Scope& s, const Values& p, const ModelInputs&) {
                     return s.emit("op", Op::kCausalSoftmax, rows(5, 5, 2), {p[0]});
                   },
                   50});
  cases.push_back({"dropout",
                   {{kBatch, kTime, 3}},
                   [](const Scope& s, const Values& p, const ModelInputs& in) {
                     DropoutAttributes a;
                     a.rate = 0.4;
                     a.samples = kBatch;
                     a.rows = a.total_rows = kTime;
                     a.width = 3;
                     return s.emit("op", Op::kDropout, a, {p[0], in.sample_index});
                   },
                   kBatch * kTime * 3});
  cases.push_back(
      {"embedding",
       {{11, 5}},
       [](const Scope& s, const Values& p, const ModelInputs& in) {
         return s.emit("op", Op::kEmbedding, rows(kBatch * kTime, 5), {in.tokens, p[0]});
       },
       kBatch * kTime * 5});
  cases.push_back({"cross_entropy",
                   {{kBatch * kTime, 11}},
                   [](const Scope& s, const Values& p, const ModelInputs& in) {
                     const NodeId id = s.emit_all("op", Op::kCrossEntropy, rows(kBatch * kTime, 11),
                                                  {p[0], in.targets}, {});
                     return s.graph.nodes[static_cast<size_t>(id)].outputs[0];
                   },
                   kBatch * kTime});
  cases.push_back(chunked_case());
  return cases;
}

class OpGradient : public testing::TestWithParam<OpCase> {};

TEST_P(OpGradient, EqualsFiniteDifferences) {
  const OneOpModel model(GetParam());
  CompileSettings settings;
  settings.evaluate = false;
  const Plan plan = compile(model, settings);
  SelfCommunicator comm;
  Executor executor(plan, comm, 1);
  executor.run(plan.program("init"));
  for (int64_t i = 0; i < kBatch * kTime; ++i) {
    executor.slot(SlotKind::kTokens).as<int32_t>()[i] = static_cast<int32_t>(i * 7 % 11);
    executor.slot(SlotKind::kTargets).as<int32_t>()[i] = static_cast<int32_t>(i * 5 % 11);
  }
  if (const Slot* samples = plan.find_slot(SlotKind::kSampleIndex)) {
    for (int64_t b = 0; b < kBatch; ++b) executor.slot(*samples).as<int64_t>()[b] = b + 3;
  }
  executor.slot(SlotKind::kScalars).as<double>()[static_cast<int64_t>(Scalar::kSeed)] = 1.0;
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  double* p = executor.slot(SlotKind::kParameter, 0).as<double>();
  for (const Segment& s : plan.units[0].segments) {
    for (int64_t i = 0; i < s.count; ++i) p[s.offset + i] = normal(random);
  }
  const auto loss = [&] {
    executor.run(plan.program("last_micro"));
    return executor.slot(SlotKind::kLossSum).as<double>()[0];
  };
  loss();
  const Tensor slot = executor.slot(SlotKind::kGradient, 0);
  const std::vector<double> gradient(slot.as<double>(), slot.as<double>() + slot.elements());
  double largest = 0.0;
  for (double g : gradient) largest = std::max(largest, std::abs(g));
  ASSERT_GT(largest, 0.0);
  for (const Segment& s : plan.units[0].segments) {
    double tensor_largest = 0.0;
    for (int64_t i = s.offset; i < s.offset + s.count; ++i) {
      const double h = 1e-3, at = p[i];
      const auto moved = [&](double by) {
        p[i] = at + by;
        return loss();
      };
      const double slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
      p[i] = at;
      EXPECT_NEAR(gradient[static_cast<size_t>(i)], slope, 1e-8 * largest) << s.name << " " << i;
      tensor_largest = std::max(tensor_largest, std::abs(slope));
    }
    EXPECT_GT(tensor_largest, 1e-3 * largest) << s.name << " has no influence";
  }
}

// H v of the same loss, which is bilinear in the result and the last parameter.
class OpCurvature : public testing::TestWithParam<OpCase> {};

TEST_P(OpCurvature, EqualsDifferencesOfGradientsAndIsSymmetric) {
  const OneOpModel model(GetParam());
  CompileSettings settings;
  settings.train = settings.evaluate = false;
  settings.curvature = true;
  const Plan plan = compile(model, settings);
  SelfCommunicator comm;
  Executor executor(plan, comm, 1);
  for (int64_t i = 0; i < kBatch * kTime; ++i) {
    executor.slot(SlotKind::kTokens).as<int32_t>()[i] = static_cast<int32_t>(i * 7 % 11);
    executor.slot(SlotKind::kTargets).as<int32_t>()[i] = static_cast<int32_t>(i * 5 % 11);
  }
  const auto scalar = [&](Scalar which) -> double& {
    return executor.slot(SlotKind::kScalars).as<double>()[static_cast<int64_t>(which)];
  };
  scalar(Scalar::kSeed) = scalar(Scalar::kSignScale) = scalar(Scalar::kDraw) = 1.0;
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  const auto count = static_cast<size_t>(plan.units[0].padded);
  const auto noise = [&] {
    std::vector<double> v(count, 0.0);
    for (const Segment& s : plan.units[0].segments) {
      for (int64_t i = 0; i < s.count; ++i) v[static_cast<size_t>(s.offset + i)] = normal(random);
    }
    return v;
  };
  const auto slot = [&](SlotKind kind) { return executor.slot(kind, 0).as<double>(); };
  const auto contents = [&](SlotKind kind) {
    return std::vector<double>(slot(kind), slot(kind) + count);
  };
  const std::vector<double> at = noise(), u = noise(), v = noise();
  std::copy(at.begin(), at.end(), slot(SlotKind::kParameter));
  const auto product = [&](const std::vector<double>& direction) {
    std::copy(direction.begin(), direction.end(), slot(SlotKind::kVector));
    executor.run(plan.program(kHessianVector));
    return contents(SlotKind::kCurvature);
  };
  const auto gradient = [&](double by) {
    for (size_t i = 0; i < count; ++i) slot(SlotKind::kParameter)[i] = at[i] + by * v[i];
    executor.run(plan.program(kHessianSigns));
    return contents(SlotKind::kGradient);
  };
  const std::vector<double> hv = product(v), hu = product(u);
  constexpr double h = 1e-4;
  const std::vector<double> a = gradient(h), b = gradient(-h), c = gradient(2 * h),
                            d = gradient(-2 * h);
  double largest = 0.0, uhv = 0.0, vhu = 0.0;
  for (size_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(hv[i]));
    uhv += u[i] * hv[i];
    vhu += v[i] * hu[i];
  }
  ASSERT_GT(largest, 0.0);
  for (size_t i = 0; i < count; ++i) {
    const double difference = (8 * (a[i] - b[i]) - (c[i] - d[i])) / (12 * h);
    EXPECT_NEAR(hv[i], difference, 1e-7 * largest) << i;
  }
  EXPECT_NEAR(uhv, vhu, 1e-12 * largest * static_cast<double>(count));
}

// Dropout needs a training step: dual_test has it.
std::vector<OpCase> cases_without_dropout() {
  std::vector<OpCase> cases = all_cases();
  std::erase_if(cases, [](const OpCase& c) { return c.name == "dropout"; });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Ops, OpCurvature, testing::ValuesIn(cases_without_dropout()),
                         [](const auto& instance) { return instance.param.name; });
INSTANTIATE_TEST_SUITE_P(Ops, OpGradient, testing::ValuesIn(all_cases()),
                         [](const auto& instance) { return instance.param.name; });

// What has no rule is refused by name, when the plan is made.
TEST(OpWithoutTangents, IsNamed) {
  Graph graph;
  const Scope s{graph, "", Phase::kForward, 0};
  const ValueId x = s.emit("x", Op::kOperand, StateAttributes{0}, {}, type_of({4}));
  const ValueId t = s.emit("t", Op::kOperand, StateAttributes{1}, {}, type_of({4}));
  s.emit("block0/odd", Op::kSumSquares, UnitAttributes{}, {x});
  try {
    dual(graph, {{x, t}});
    FAIL() << "a derivative of what has none";
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("block0/odd"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("sum_squares"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace memwall
