#include "runtime/cost/fit.h"

#include <algorithm>
#include <limits>

#include "runtime/cost/op_cost.h"

namespace memwall {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// The rate of that slope. Where the slope is 0, count and offset take all the time: then a rate at
// which no point would take a thousandth of its time, for a description has to name one.
double rate_of(double slope, const std::vector<TimedAmount>& timed) {
  if (slope > 0.0) return 1.0 / slope;
  double out = 0.0;
  for (const TimedAmount& t : timed) out = std::max(out, 1e3 * t.amount / t.seconds);
  return out;
}

// `machine` with those links and nothing measured.
Machine with_links(Machine machine, Link link, Link nic) {
  machine.link = link;
  machine.nic = nic;
  machine.nics = 1;
  machine.transfer_rates.clear();
  return machine;
}

Topology topology_of(const TransferPoint& point) {
  return {point.ranks, point.ranks_a_node, point.ranks / point.ranks_a_node};
}

// The formula of collective_cost.h taken apart: its seconds are linear in a link's latency and in
// the reciprocal of its bandwidth.
TimedAmount taken_apart(const TimedTransfer& timed, const Transfer& transfer,
                        const Machine& machine) {
  const Topology topology = topology_of(timed.point);
  const auto seconds = [&](Link link, Link nic) {
    return transfer_cost(with_links(machine, link, nic), topology, transfer).seconds();
  };
  const Link none{kInfinite, 0.0}, latency{kInfinite, 1.0}, bytes{1.0, 0.0};
  if (topology.nodes == 1)
    return {seconds(latency, none), seconds(bytes, none), timed.point.seconds};
  double inside = 0.0;
  if (transfer.algorithm == Algorithm::kTwoLevel) inside = seconds(machine.link, none);
  return {seconds(none, latency), seconds(none, bytes),
          std::max(timed.point.seconds - inside, 0.1 * timed.point.seconds)};
}

}  // namespace

Line fit_line(const std::vector<TimedAmount>& timed) {
  // Of (count / seconds) offset + (amount / seconds) slope = 1.
  double cc = 0.0, ca = 0.0, aa = 0.0, c1 = 0.0, a1 = 0.0;
  for (const TimedAmount& t : timed) {
    const double c = t.count / t.seconds, a = t.amount / t.seconds;
    cc += c * c, ca += c * a, aa += a * a, c1 += c, a1 += a;
  }
  const double determinant = cc * aa - ca * ca;
  if (determinant > 1e-12 * cc * aa) {
    const Line both{(c1 * aa - a1 * ca) / determinant, (a1 * cc - c1 * ca) / determinant};
    if (both.offset >= 0.0 && both.slope >= 0.0) return both;
  }
  // On the border: the better of the two. With one number x = v1 / vv the error is n - v1^2 / vv.
  const double gain_slope = aa > 0.0 ? a1 * a1 / aa : 0.0;
  const double gain_offset = cc > 0.0 ? c1 * c1 / cc : 0.0;
  if (gain_slope >= gain_offset) return {0.0, aa > 0.0 ? a1 / aa : 0.0};
  return {c1 / cc, 0.0};
}

OpRate fit_op_rate(Op op, DType dtype, const std::vector<OpPoint>& points, double dram_bandwidth) {
  double seconds = 0.0, bytes = 0.0, flops = 0.0;
  for (const OpPoint& p : points) {
    seconds += p.seconds;
    bytes += static_cast<double>(p.dram_bytes);
    flops += static_cast<double>(p.flops);
  }
  const bool by_flops = flops > 0.0 && (is_product(op) || seconds > 2.0 * bytes / dram_bandwidth);
  std::vector<TimedAmount> timed;
  for (const OpPoint& p : points) {
    timed.push_back({static_cast<double>(p.launches),
                     static_cast<double>(by_flops ? p.flops : p.dram_bytes), p.seconds});
  }
  const Line line = fit_line(timed);
  OpRate out{.op = op, .dtype = dtype, .launch_seconds = line.offset, .corrections = {}};
  (by_flops ? out.flops : out.bandwidth) = rate_of(line.slope, timed);
  correct(out, points);
  return out;
}

TransferRate fit_transfer_rate(Op op, Algorithm algorithm, Transport transport,
                               const std::vector<TimedTransfer>& timed, const Machine& machine) {
  TransferRate out{.op = op,
                   .algorithm = algorithm,
                   .transport = transport,
                   .link = {},
                   .nic = {},
                   .corrections = {}};
  std::vector<TimedAmount> inside, between;
  for (const TimedTransfer& t : timed) {
    const Transfer transfer{.op = op,
                            .algorithm = algorithm,
                            .transport = transport,
                            .part_bytes = t.point.part_bytes,
                            .rounds = t.rounds};
    const bool one_node = t.point.ranks == t.point.ranks_a_node;
    (one_node ? inside : between).push_back(taken_apart(t, transfer, machine));
  }
  const auto link_of = [](const std::vector<TimedAmount>& points) {
    if (points.empty()) return Link{};
    const Line line = fit_line(points);
    return Link{rate_of(line.slope, points), line.offset};
  };
  out.link = link_of(inside);
  out.nic = link_of(between);
  correct(out, machine, timed);
  return out;
}

}  // namespace memwall
