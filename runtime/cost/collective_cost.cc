#include "runtime/cost/collective_cost.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "runtime/base/error.h"
#include "runtime/base/math.h"

namespace memwall {
namespace {

// How the MPI transport cuts what it sends to one rank (comm/mpi).
constexpr int64_t kMostMessageBytes = int64_t{64} << 20;

// The names of the header's formulas.
struct Terms {
  double N, g, M, s;
  double a, b, A, B;
};

Terms terms_of(const Machine& machine, const Topology& topology, const Transfer& transfer,
               const TransferRate* measured) {
  Link link = machine.link;
  Link nics = {machine.nic.bandwidth * static_cast<double>(machine.nics),
               machine.nic.latency_seconds};
  if (measured != nullptr && measured->link.bandwidth > 0.0) link = measured->link;
  if (measured != nullptr && measured->nic.bandwidth > 0.0) nics = measured->nic;
  return {.N = static_cast<double>(topology.ranks),
          .g = static_cast<double>(topology.ranks_a_node),
          .M = static_cast<double>(topology.nodes),
          .s = static_cast<double>(transfer.part_bytes),
          .a = link.latency_seconds,
          .b = link.bandwidth,
          .A = nics.latency_seconds,
          .B = nics.bandwidth};
}

// Bytes inside and between nodes pass at the same time: the slower ones are seen.
TransferCost pairwise(const Terms& t, int64_t rounds) {
  TransferCost out;
  const double intra = (t.g - 1) * t.s / t.b;
  const double inter = t.M > 1 ? t.g * (t.N - t.g) * t.s / t.B : 0.0;
  (inter > intra ? out.inter : out.intra) = std::max(intra, inter);
  const double in_flight = std::min(static_cast<double>(kExchangesInFlight), t.N - 1);
  out.latency = static_cast<double>(rounds) * ((t.g - 1) * t.a + (t.N - t.g) * t.A) / in_flight;
  return out;
}

TransferCost ring(const Terms& t) {
  TransferCost out;
  const double intra = t.g > 1 ? t.a + t.s / t.b : 0.0;
  const double inter = t.M > 1 ? t.A + t.s / t.B : 0.0;
  const bool between = inter > intra;
  (between ? out.inter : out.intra) = (t.N - 1) * t.s / (between ? t.B : t.b);
  out.latency = (t.N - 1) * (between ? t.A : t.a);
  return out;
}

TransferCost two_level(const Terms& t) {
  TransferCost out;
  out.intra = (t.g - 1) * t.M * t.s / t.b;
  out.latency = (t.g - 1) * t.a;
  if (t.M > 1) {
    out.inter = (t.M - 1) * t.g * t.s / t.B;
    out.latency += (t.M - 1) * t.A;
  }
  return out;
}

TransferCost by_links(const Terms& terms, Algorithm algorithm, int64_t rounds) {
  switch (algorithm) {
    case Algorithm::kPairwise: return pairwise(terms, rounds);
    case Algorithm::kRing: return ring(terms);
    case Algorithm::kTwoLevel: return two_level(terms);
  }
  throw InternalError("no algorithm");
}

// Of the parts that a node's ranks send, those that leave it.
int64_t inter_parts(const Topology& t, Algorithm algorithm) {
  const int64_t N = t.ranks, g = t.ranks_a_node, M = t.nodes;
  switch (algorithm) {
    case Algorithm::kPairwise: return g * (N - g);
    case Algorithm::kRing: return M > 1 ? N - 1 : 0;
    case Algorithm::kTwoLevel: return g * (M - 1);
  }
  throw InternalError("no algorithm");
}

auto order(const TransferPoint& p) {
  return std::tuple(p.ranks, p.ranks_a_node, p.part_bytes);
}

double correction_of(const TransferRate& rate, const Topology& topology, int64_t part_bytes) {
  const auto here = [&](const TransferRate::Correction& c) {
    return c.point.ranks == topology.ranks && c.point.ranks_a_node == topology.ranks_a_node;
  };
  const TransferRate::Correction* below = nullptr;
  for (const TransferRate::Correction& c : rate.corrections) {
    if (!here(c)) continue;
    if (c.point.part_bytes < part_bytes) {
      below = &c;
      continue;
    }
    if (below == nullptr || c.point.part_bytes == part_bytes) return c.factor;
    const auto log_of = [&](int64_t bytes) { return std::log(static_cast<double>(bytes)); };
    const double low = log_of(below->point.part_bytes);
    const double share = (log_of(part_bytes) - low) / (log_of(c.point.part_bytes) - low);
    return below->factor + share * (c.factor - below->factor);
  }
  return below != nullptr ? below->factor : 1.0;
}

}  // namespace

int64_t exchange_rounds(Op op, Transport transport, int64_t ranks, int64_t part_bytes,
                        DType dtype) {
  if (transport != Transport::kMpi || op == Op::kAllReduce) return 1;
  if (op == Op::kAllGather) return std::max<int64_t>(1, ceil_div(part_bytes, kMostMessageBytes));
  const int64_t elements = part_bytes / size_of(dtype);
  const int64_t block = reduce_scatter_block_elements(ranks, elements, dtype);
  return block > 0 ? ceil_div(elements, block) : 1;
}

TransferCost transfer_cost(const Machine& machine, const Topology& topology,
                           const Transfer& transfer) {
  if (topology.ranks == 1) return {};
  const TransferRate* measured =
      find_transfer_rate(machine, transfer.op, transfer.algorithm, transfer.transport);
  TransferCost out = by_links(terms_of(machine, topology, transfer, measured), transfer.algorithm,
                              transfer.rounds);
  if (measured != nullptr) {
    const double factor = correction_of(*measured, topology, transfer.part_bytes);
    for (double* part : {&out.intra, &out.inter, &out.latency}) *part *= factor;
  }
  const int64_t parts = inter_parts(topology, transfer.algorithm);
  out.inter_bytes = parts * transfer.part_bytes / topology.ranks_a_node;
  out.intra_bytes = (topology.ranks - 1) * transfer.part_bytes - out.inter_bytes;
  return out;
}

void correct(TransferRate& rate, const Machine& machine, const std::vector<TimedTransfer>& timed) {
  rate.corrections.clear();
  for (const TimedTransfer& t : timed) {
    const TransferPoint& p = t.point;
    const Topology topology{p.ranks, p.ranks_a_node, p.ranks / p.ranks_a_node};
    const Transfer transfer{.op = rate.op,
                            .algorithm = rate.algorithm,
                            .transport = rate.transport,
                            .part_bytes = p.part_bytes,
                            .rounds = t.rounds};
    const double expected =
        by_links(terms_of(machine, topology, transfer, &rate), rate.algorithm, t.rounds).seconds();
    if (expected > 0.0) rate.corrections.push_back({p, p.seconds / expected});
  }
  std::sort(rate.corrections.begin(), rate.corrections.end(),
            [](const auto& a, const auto& b) { return order(a.point) < order(b.point); });
}

}  // namespace memwall
