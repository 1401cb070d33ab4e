// Rates fitted to points that were made by the formulas, written out here once more.
#include "runtime/cost/fit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/cost/op_cost.h"

namespace memwall::test {
namespace {

void expect_close(double found, double expected) {
  EXPECT_NEAR(found, expected, 1e-6 * std::abs(expected));
}

TEST(FitLine, FindsTheLineThatThePointsLieOn) {
  std::vector<TimedAmount> timed;
  for (const auto& [count, amount] : {std::pair{1.0, 10.0}, {3.0, 1e6}, {16.0, 2e4}, {2.0, 0.0}}) {
    timed.push_back({count, amount, 3e-6 * count + 2e-9 * amount});
  }
  const Line line = fit_line(timed);
  expect_close(line.offset, 3e-6);
  expect_close(line.slope, 2e-9);
}

// Points (1, 0) of 1 and 2 seconds: (x - 1)^2 + (x / 2 - 1)^2 is least at x = 1.2; without the
// division by the seconds it would be 1.5.
TEST(FitLine, ErrorsAreRelative) {
  EXPECT_DOUBLE_EQ(fit_line({{1, 0, 1}, {1, 0, 2}}).offset, 1.2);
}

TEST(FitLine, NoNumberIsBelowZero) {
  // A line through these would have offset -1, through those slope -1.
  const Line through_zero = fit_line({{1, 2, 1}, {1, 4, 3}});
  EXPECT_EQ(through_zero.offset, 0.0);
  // (2 x - 1)^2 + (4 x / 3 - 1)^2: x = (2 + 4 / 3) / (4 + 16 / 9).
  EXPECT_DOUBLE_EQ(through_zero.slope, (2 + 4.0 / 3) / (4 + 16.0 / 9));
  const Line flat = fit_line({{1, 1, 3}, {1, 3, 1}});
  EXPECT_EQ(flat.slope, 0.0);
  EXPECT_DOUBLE_EQ(flat.offset, (1.0 / 3 + 1) / (1.0 / 9 + 1));
  const Line none = fit_line({});
  EXPECT_EQ(none.offset, 0.0);
  EXPECT_EQ(none.slope, 0.0);
}

// 5 us a launch, 1e11 FLOP/s.
OpPoint product(int64_t flops, int64_t launches) {
  return {flops, 1000, launches,
          static_cast<double>(launches) * 5e-6 + static_cast<double>(flops) / 1e11};
}

TEST(FitOpRate, ProductsGoByTheirFlops) {
  const OpRate rate = fit_op_rate(
      Op::kGemm, DType::kF32,
      {product(1'000'000, 1), product(300'000'000, 4), product(5'000'000'000, 2)}, 1e10);
  expect_close(rate.launch_seconds, 5e-6);
  expect_close(rate.flops, 1e11);
  EXPECT_EQ(rate.bandwidth, 0.0);
  ASSERT_EQ(rate.corrections.size(), 3U);
  for (const OpRate::Correction& c : rate.corrections) EXPECT_NEAR(c.factor, 1.0, 1e-6);
}

TEST(FitOpRate, OtherStepsGoByTheirBytesUnlessTheyTakeMuchLonger) {
  const auto step = [](int64_t bytes, double bandwidth) {
    return OpPoint{7 * bytes, bytes, 1, 2e-6 + static_cast<double>(bytes) / bandwidth};
  };
  const OpRate copies =
      fit_op_rate(Op::kGelu, DType::kF32, {step(1'000'000, 8e9), step(64'000'000, 8e9)}, 1e10);
  expect_close(copies.bandwidth, 8e9);
  expect_close(copies.launch_seconds, 2e-6);
  EXPECT_EQ(copies.flops, 0.0);
  // A quarter of the memory's 1e10 bytes/s: 7 FLOPs a byte decide.
  const OpRate counts =
      fit_op_rate(Op::kGelu, DType::kF32, {step(1'000'000, 2.5e9), step(64'000'000, 2.5e9)}, 1e10);
  expect_close(counts.flops, 7 * 2.5e9);
  EXPECT_EQ(counts.bandwidth, 0.0);
}

TEST(FitOpRate, OnePointIsItsOwnRate) {
  const OpRate rate = fit_op_rate(Op::kCopy, DType::kF64, {{0, 4096, 2, 1e-6}}, 1e10);
  expect_close(rate.bandwidth, 4.096e9);
  EXPECT_EQ(rate.launch_seconds, 0.0);
}

// 1 us a launch whatever the bytes: a rate is named all the same, and none of the points notices.
TEST(FitOpRate, LaunchesAloneLeaveARate) {
  const OpRate rate =
      fit_op_rate(Op::kCopy, DType::kF32, {{0, 4000, 1, 1e-6}, {0, 1000, 1, 1e-6}}, 1e10);
  expect_close(rate.launch_seconds, 1e-6);
  EXPECT_GT(rate.bandwidth, 999 * 4e9);
}

Machine machine_with(const OpRate& rate) {
  Machine out;
  out.op_rates = {rate};
  return out;
}

TEST(Corrections, ATimedStepTakesAsLongAsItDid) {
  std::vector<OpPoint> points;
  const std::vector<double> off = {1.3, 0.8, 1.1, 0.95};
  for (size_t i = 0; i < off.size(); ++i) {
    points.push_back(product(int64_t{1'000'000} << (3 * i), 1 + static_cast<int64_t>(i)));
    points.back().seconds *= off[i];
  }
  const OpRate rate = fit_op_rate(Op::kGemm, DType::kF32, points, 1e10);
  const Machine machine = machine_with(rate);
  const auto seconds = [&](const Machine& m, const OpPoint& p) {
    return op_seconds(m, {Op::kGemm, DType::kF32, p.flops, p.dram_bytes, p.launches}).seconds();
  };
  for (const OpPoint& p : points) EXPECT_NEAR(seconds(machine, p), p.seconds, 1e-12 * p.seconds);
  // Twice the FLOP/s: what is not launches halves, by the same correction.
  const Machine faster = scaled(machine, {.flops = 2});
  for (size_t i = 0; i < points.size(); ++i) {
    const auto launches = static_cast<double>(points[i].launches);
    const double launch = launches * rate.launch_seconds,
                 flops = static_cast<double>(points[i].flops);
    const double factor = points[i].seconds / (launch + flops / rate.flops);
    EXPECT_NEAR(seconds(faster, points[i]), factor * (launch + flops / rate.flops / 2),
                1e-12 * points[i].seconds);
  }
}

// Sizes 100 and 10,000 bytes a launch, off by 1.5 and 0.5: at 1,000, their middle by logarithm,
// they are off by 1; below and above as the nearest.
TEST(Corrections, BetweenTimedSizesTheyAreInterpolated) {
  OpRate rate{.op = Op::kCopy, .bandwidth = 1e6, .corrections = {}};
  correct(rate, {{0, 10'000, 1, 0.5e-2}, {0, 200, 2, 1.5 * 200e-6}});
  const auto off = [&](int64_t bytes) {
    return op_seconds(machine_with(rate), {.op = Op::kCopy, .dram_bytes = bytes}).seconds() /
           (static_cast<double>(bytes) / 1e6);
  };
  EXPECT_NEAR(off(1'000), 1.0, 1e-9);
  EXPECT_NEAR(off(316), 1.25, 1e-3);
  EXPECT_NEAR(off(10), 1.5, 1e-9);
  EXPECT_NEAR(off(1'000'000), 0.5, 1e-9);
}

// Inside a node 4e9 bytes/s and 3 us; of all NICs of a node 1e9 and 20 us.
constexpr double b = 4e9, a = 3e-6, B = 1e9, A = 20e-6;

// The links that a machine had before; two-level's inner part is taken from it.
Machine before() {
  Machine out;
  out.devices = 2;
  out.link = {b, a};
  out.nics = 1;
  out.nic = {7e9, 7e-6};
  return out;
}

double by_hand(Algorithm algorithm, double N, double g, double s, double r, bool inside) {
  const double M = N / g;
  if (inside) {
    switch (algorithm) {
      case Algorithm::kPairwise: return (N - 1) * s / b + r * (N - 1) * a / std::min(8.0, N - 1);
      case Algorithm::kRing: return (N - 1) * (a + s / b);
      case Algorithm::kTwoLevel: return (g - 1) * (a + s / b);
    }
  }
  switch (algorithm) {
    case Algorithm::kPairwise: return g * (N - g) * s / B + r * (N - g) * A / std::min(8.0, N - 1);
    case Algorithm::kRing: return (N - 1) * (A + s / B);
    case Algorithm::kTwoLevel: return (g - 1) * (a + M * s / b) + (M - 1) * (A + g * s / B);
  }
  return 0.0;
}

std::vector<TimedTransfer> transfers(Algorithm algorithm, int64_t ranks, int64_t a_node,
                                     double off) {
  std::vector<TimedTransfer> out;
  for (const int64_t s : {64, 4096, 1 << 20, 16 << 20}) {
    const int64_t rounds = s > 4096 ? 3 : 1;
    const double seconds =
        by_hand(algorithm, static_cast<double>(ranks), static_cast<double>(a_node),
                static_cast<double>(s), static_cast<double>(rounds), ranks == a_node);
    out.push_back({{ranks, a_node, s, seconds}, rounds});
    out.back().point.seconds *= out.size() % 2 == 0 ? off : 1 / off;
  }
  return out;
}

TEST(FitTransferRate, FindsALinkAndTheNics) {
  for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
    SCOPED_TRACE(name_of(algorithm));
    std::vector<TimedTransfer> timed = transfers(algorithm, 4, 4, 1.0);
    const auto one_node =
        fit_transfer_rate(Op::kAllGather, algorithm, Transport::kMpi, timed, before());
    expect_close(one_node.link.bandwidth, b);
    expect_close(one_node.link.latency_seconds, a);
    EXPECT_EQ(one_node.nic.bandwidth, 0.0);
    const int64_t a_node = algorithm == Algorithm::kTwoLevel ? 2 : 1;
    timed = transfers(algorithm, 3 * a_node, a_node, 1.0);
    const auto nodes =
        fit_transfer_rate(Op::kAllGather, algorithm, Transport::kMpi, timed, before());
    expect_close(nodes.nic.bandwidth, B);
    expect_close(nodes.nic.latency_seconds, A);
    EXPECT_EQ(nodes.link.bandwidth, 0.0);
  }
}

TEST(FitTransferRate, ATimedTransferTakesAsLongAsItDid) {
  for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
    SCOPED_TRACE(name_of(algorithm));
    const std::vector<TimedTransfer> timed = transfers(algorithm, 6, 2, 1.2);
    Machine m = before();
    m.transfer_rates = {
        fit_transfer_rate(Op::kReduceScatter, algorithm, Transport::kMpi, timed, before())};
    Transfer transfer{.op = Op::kReduceScatter, .algorithm = algorithm};
    const auto seconds = [&](int64_t ranks, int64_t bytes, int64_t rounds) {
      transfer.part_bytes = bytes;
      transfer.rounds = rounds;
      return transfer_cost(m, topology_of(m, ranks), transfer).seconds();
    };
    for (const TimedTransfer& t : timed) {
      EXPECT_NEAR(seconds(6, t.point.part_bytes, t.rounds), t.point.seconds,
                  1e-12 * t.point.seconds);
    }
    // Another collective has the machine's own links.
    transfer.op = Op::kAllGather;
    const double general = seconds(6, 1 << 20, 1);
    m.transfer_rates.clear();
    EXPECT_EQ(seconds(6, 1 << 20, 1), general);
  }
}

// Timed by two ranks of one node, off by 2 and 0.5 at 2^10 and 2^20 bytes; in the middle 2^15.
TEST(Corrections, OfTransfersAreThoseOfTheirTopology) {
  Machine m = before();
  TransferRate rate{.link = {1e9, 0.0}, .nic = {}, .corrections = {}};
  correct(rate, m, {{{2, 2, 1 << 20, 0.5 * 1048576e-9}, 1}, {{2, 2, 1 << 10, 2 * 1024e-9}, 1}});
  m.transfer_rates = {rate};
  const auto off = [&](const Topology& topology, int64_t bytes) {
    const double links = static_cast<double>((topology.ranks - 1) * bytes) / 1e9;
    return transfer_cost(m, topology, {.part_bytes = bytes}).seconds() / links;
  };
  EXPECT_NEAR(off({2, 2, 1}, 1 << 10), 2.0, 1e-9);
  EXPECT_NEAR(off({2, 2, 1}, 1 << 15), 1.25, 1e-9);
  EXPECT_NEAR(off({2, 2, 1}, 1), 2.0, 1e-9);
  EXPECT_NEAR(off({2, 2, 1}, 1 << 25), 0.5, 1e-9);
  EXPECT_NEAR(off({3, 3, 1}, 1 << 15), 1.0, 1e-9);  // not timed
}

}  // namespace
}  // namespace memwall::test
