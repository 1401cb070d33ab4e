// Initialisation, control of the step, AdamW.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/rng.h"
#include "runtime/base/scalars.h"
#include "tests/kernels/op_case.h"

namespace memwall::test {
namespace {

constexpr int64_t kPadded = 15360;  // 3 * 5120: shards end inside the matrix

// Constants, a gap, a matrix whose end is no multiple of four, padding at the end.
Unit test_unit() {
  Unit unit;
  unit.name = "unit";
  unit.padded = kPadded;
  const auto add = [&](int64_t offset, int64_t count, bool decay, InitKind init, double value) {
    Segment s;
    s.shape = Shape{count};
    s.offset = offset, s.count = count, s.decay = decay, s.init = init, s.init_value = value;
    s.index = static_cast<uint32_t>(40 + unit.segments.size());
    unit.segments.push_back(s);
    unit.parameters += count;
  };
  add(0, 100, false, InitKind::kConstant, 1.0);
  add(128, 13001, true, InitKind::kNormal, 0.02);
  add(13184, 64, false, InitKind::kConstant, 0.0);
  add(13248, 1000, true, InitKind::kNormal, 0.5);
  return unit;
}

const Segment* segment_at(const Unit& unit, int64_t e) {
  for (const Segment& s : unit.segments) {
    if (e >= s.offset && e < s.offset + s.count) return &s;
  }
  return nullptr;
}

TEST(Update, Initialize) {
  const Unit unit = test_unit();
  for (int ranks : {1, 3}) {
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t count = kPadded / ranks;
      UnitAttributes a;
      a.parts = ranks, a.seed = 987654321012;
      OpCase c;
      c.name = "rank " + std::to_string(rank) + " of " + std::to_string(ranks);
      c.op = Op::kInitialize;
      c.attributes = a;
      c.unit = &unit;
      c.rank = rank, c.ranks = ranks;
      c.outputs = {output({count})};
      c.tolerance_f32 = 1e-7, c.tolerance_f64 = 1e-15;
      c.reference = [&](const auto&) {
        Values p;
        for (int64_t e = rank * count; e < (rank + 1) * count; ++e) {
          const Segment* s = segment_at(unit, e);
          if (s == nullptr) {
            p.push_back(0.0);
          } else if (s->init == InitKind::kConstant) {
            p.push_back(s->init_value);
          } else {
            const auto i = static_cast<uint64_t>(e - s->offset);
            const auto block = random_block(static_cast<uint64_t>(a.seed), s->index, i / 4);
            p.push_back(to_normals(block)[i % 4] * s->init_value);
          }
        }
        return std::vector<Values>{p};
      };
      expect_correct(c);
    }
  }
}

TEST(Update, InitialValuesAreNormal) {
  const Unit unit = test_unit();
  OpCase c;
  c.op = Op::kInitialize;
  c.attributes = UnitAttributes{};
  c.unit = &unit;
  c.outputs = {output({kPadded})};
  const auto bytes = run(c, DType::kF64, 0, 1, {})[0];
  const auto* p = reinterpret_cast<const double*>(bytes.data());
  const Segment& s = unit.segments[1];
  double mean = 0, variance = 0;
  for (int64_t i = 0; i < s.count; ++i) mean += p[s.offset + i] / double(s.count);
  for (int64_t i = 0; i < s.count; ++i) {
    variance += std::pow(p[s.offset + i] - mean, 2) / double(s.count);
  }
  const double root = std::sqrt(double(s.count));
  EXPECT_LT(std::abs(mean), 5.0 * s.init_value / root);
  EXPECT_NEAR(std::sqrt(variance), s.init_value, 5.0 * s.init_value / root);
}

Values scalars_with(std::initializer_list<std::pair<Scalar, double>> values) {
  Values out(kScalarCount, 0.0);
  for (const auto& [which, value] : values) out[static_cast<size_t>(which)] = value;
  return out;
}

OpCase adamw_case(const Unit& unit, int rank, int ranks, bool skip) {
  const int64_t count = kPadded / ranks;
  UnitAttributes a;
  a.parts = ranks;
  a.beta1 = 0.9, a.beta2 = 0.95, a.epsilon = 1e-8, a.weight_decay = 0.1;
  OpCase c;
  c.name = "rank " + std::to_string(rank) + " of " + std::to_string(ranks);
  c.op = Op::kAdamW;
  c.attributes = a;
  c.unit = &unit;
  c.rank = rank, c.ranks = ranks;
  Values v = noise(count, 3);
  for (double& x : v) x = std::abs(x);
  const Values scalars = scalars_with({{Scalar::kLearningRate, 0.01},
                                       {Scalar::kUpdates, 7.0},
                                       {Scalar::kGradScale, 0.25},
                                       {Scalar::kSkip, skip ? 1.0 : 0.0}});
  // 16-bit gradients update an FP32 master.
  constexpr Kind kState = Kind::kStatistic;
  c.inputs = {input({count}, noise(count, 1), kState), input({count}, noise(count, 2), kState),
              input({count}, v, kState), input({count}, noise(count, 4)),
              input({kScalarCount}, scalars, Kind::kF64)};
  c.outputs = {output({count}, kState), output({count}, kState), output({count}, kState)};
  c.in_place = {{0, 0}, {1, 1}, {2, 2}};
  c.tolerance_f32 = 1e-6, c.tolerance_f64 = 1e-14;
  // torch.optim.AdamW, single tensor.
  c.reference = [&unit, a, rank, count, skip](const std::vector<Values>& in) {
    std::vector<Values> out(in.begin(), in.begin() + 3);
    if (skip) return out;
    const auto scalar = [&](Scalar which) { return in[4][static_cast<size_t>(which)]; };
    const double rate = scalar(Scalar::kLearningRate);
    for (int64_t e = 0; e < count; ++e) {
      const auto i = static_cast<size_t>(e);
      const Segment* s = segment_at(unit, rank * count + e);
      double &p = out[0][i], &m = out[1][i], &v2 = out[2][i];
      const double g = in[3][i] * scalar(Scalar::kGradScale);
      if (s != nullptr && s->decay) p *= 1.0 - rate * a.weight_decay;
      m = a.beta1 * m + (1.0 - a.beta1) * g;
      v2 = a.beta2 * v2 + (1.0 - a.beta2) * g * g;
      const double t = scalar(Scalar::kUpdates);
      const double denominator = std::sqrt(v2 / (1.0 - std::pow(a.beta2, t))) + a.epsilon;
      p -= rate * (m / (1.0 - std::pow(a.beta1, t))) / denominator;
    }
    return out;
  };
  return c;
}

TEST(Update, AdamW) {
  const Unit unit = test_unit();
  for (bool in_place : {false, true}) {
    for (bool skip : {false, true}) {
      for (int ranks : {1, 3}) {
        for (int rank = 0; rank < ranks; ++rank) {
          OpCase c = adamw_case(unit, rank, ranks, skip);
          c.always_in_place = in_place;
          expect_correct(c);
        }
      }
    }
  }
}

OpCase sgd_case(const Unit& unit, double momentum, int rank, int ranks, bool skip) {
  const int64_t count = kPadded / ranks;
  UnitAttributes a;
  a.parts = ranks;
  a.momentum = momentum, a.weight_decay = 0.1;
  OpCase c;
  c.name = "momentum " + std::to_string(momentum);
  c.op = Op::kSgd;
  c.attributes = a;
  c.unit = &unit;
  c.rank = rank, c.ranks = ranks;
  constexpr Kind kState = Kind::kStatistic;
  const bool keeps = momentum > 0.0;
  c.inputs = {input({count}, noise(count, 1), kState)};
  if (keeps) c.inputs.push_back(input({count}, noise(count, 2), kState));
  c.inputs.push_back(input({count}, noise(count, 4)));
  c.inputs.push_back(input({kScalarCount},
                           scalars_with({{Scalar::kLearningRate, 0.01},
                                         {Scalar::kGradScale, 0.25},
                                         {Scalar::kSkip, skip ? 1.0 : 0.0}}),
                           Kind::kF64));
  c.outputs.assign(keeps ? 2 : 1, output({count}, kState));
  c.in_place = {{0, 0}};
  if (keeps) c.in_place.push_back({1, 1});
  c.tolerance_f32 = 1e-6, c.tolerance_f64 = 1e-14;
  // torch.optim.SGD, single tensor.
  c.reference = [&unit, a, rank, count, skip, keeps](const std::vector<Values>& in) {
    std::vector<Values> out(in.begin(), in.end() - 2);
    if (skip) return out;
    for (int64_t e = 0; e < count; ++e) {
      const auto i = static_cast<size_t>(e);
      const Segment* s = segment_at(unit, rank * count + e);
      double g = in[in.size() - 2][i] * 0.25;
      if (s != nullptr && s->decay) g += a.weight_decay * in[0][i];
      if (keeps) g = out[1][i] = a.momentum * in[1][i] + g;
      out[0][i] -= 0.01 * g;
    }
    return out;
  };
  return c;
}

TEST(Update, Sgd) {
  const Unit unit = test_unit();
  for (double momentum : {0.0, 0.9}) {
    for (bool in_place : {false, true}) {
      for (bool skip : {false, true}) {
        for (int rank = 0; rank < 3; ++rank) {
          OpCase c = sgd_case(unit, momentum, rank, 3, skip);
          c.always_in_place = in_place;
          expect_correct(c);
        }
      }
    }
  }
}

TEST(Update, AdamWOnShardsIsAdamWOnTheWhole) {
  const Unit unit = test_unit();
  const OpCase whole = adamw_case(unit, 0, 1, false);
  const auto all = run(whole, DType::kF32, 0, 1, {});
  for (int rank = 0; rank < 3; ++rank) {
    OpCase shard = adamw_case(unit, rank, 3, false);
    const int64_t count = kPadded / 3;
    for (size_t i = 0; i < 4; ++i) {
      const auto begin = whole.inputs[i].values.begin() + rank * count;
      shard.inputs[i].values.assign(begin, begin + count);
    }
    const auto part = run(shard, DType::kF32, 0, 1, {});
    for (size_t o = 0; o < 3; ++o) {
      EXPECT_TRUE(std::equal(part[o].begin(), part[o].end(),
                             all[o].begin() + rank * count * size_of(DType::kF32)));
    }
  }
}

// norm^2 of the scaled gradients in two partials.
OpCase step_control_case(double squares, double clip) {
  StepControlAttributes a;
  a.norm_parts = 2, a.loss_factor = 0.125, a.grad_clip = clip;
  OpCase c;
  c.op = Op::kStepControl;
  c.attributes = a;
  c.inputs = {
      input({4}, {20.0, 3.0, 0.25 * squares, 0.75 * squares}, Kind::kF64),
      input({kScalarCount}, scalars_with({{Scalar::kLossScale, 8.0}, {Scalar::kLearningRate, 0.5}}),
            Kind::kF64)};
  c.outputs = {output({kScalarCount}, Kind::kF64)};
  c.in_place = {{0, 1}};
  return c;
}

TEST(Update, StepControl) {
  struct Expected {
    double squares, clip, norm, grad_scale;
  };
  for (const Expected& e : {Expected{64.0, 0.0, 1.0, 0.125},
                            {6400.0, 2.0, 10.0, 0.125 * 2.0 / (10.0 + 1e-6)},
                            {64.0, 2.0, 1.0, 0.125}}) {
    OpCase c = step_control_case(e.squares, e.clip);
    c.reference = [e](const std::vector<Values>& in) {
      Values out = in[1];
      const auto set = [&](Scalar which, double v) { out[static_cast<size_t>(which)] = v; };
      set(Scalar::kLoss, 2.5);
      set(Scalar::kStopAgreed, 3.0);
      set(Scalar::kGradNorm, e.norm);
      set(Scalar::kGradScale, e.grad_scale);
      set(Scalar::kSkip, 0.0);
      return std::vector<Values>{out};
    };
    expect_correct(c);
  }
}

TEST(Update, StepControlSkipsWhatIsNotFinite) {
  for (double squares :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const auto bytes = run(step_control_case(squares, 1.0), DType::kF32, 0, 1, {{0, 1}})[0];
    const auto* scalars = reinterpret_cast<const double*>(bytes.data());
    EXPECT_EQ(scalars[static_cast<int64_t>(Scalar::kSkip)], 1.0);
  }
}

}  // namespace
}  // namespace memwall::test
