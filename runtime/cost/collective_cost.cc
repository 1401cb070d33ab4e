#include "runtime/cost/collective_cost.h"

#include <algorithm>

namespace memwall {
namespace {

// The names of the header's formulas.
struct Terms {
  double N, g, M, s;
  double a, b, A, B;
};

Terms terms_of(const Machine& machine, const Topology& topology, int64_t part_bytes) {
  return {.N = static_cast<double>(topology.ranks),
          .g = static_cast<double>(topology.ranks_a_node),
          .M = static_cast<double>(topology.nodes),
          .s = static_cast<double>(part_bytes),
          .a = machine.link.latency_seconds,
          .b = machine.link.bandwidth,
          .A = machine.nic.latency_seconds,
          .B = machine.nic.bandwidth * static_cast<double>(machine.nics)};
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

}  // namespace

std::string_view name_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kPairwise: return "pairwise";
    case Algorithm::kRing: return "ring";
    case Algorithm::kTwoLevel: return "two_level";
  }
  return "?";
}

TransferCost transfer_cost(const Machine& machine, const Topology& topology, Algorithm algorithm,
                           const Transfer& transfer) {
  if (topology.ranks == 1) return {};
  const Terms terms = terms_of(machine, topology, transfer.part_bytes);
  const int64_t N = topology.ranks, g = topology.ranks_a_node, M = topology.nodes;
  TransferCost out;
  int64_t inter_parts = 0;  // of the g (N - 1) that a node's ranks send
  switch (algorithm) {
    case Algorithm::kPairwise:
      out = pairwise(terms, transfer.rounds);
      inter_parts = g * (N - g);
      break;
    case Algorithm::kRing:
      out = ring(terms);
      inter_parts = M > 1 ? N - 1 : 0;
      break;
    case Algorithm::kTwoLevel:
      out = two_level(terms);
      inter_parts = g * (M - 1);
      break;
  }
  out.inter_bytes = inter_parts * transfer.part_bytes / g;
  out.intra_bytes = (N - 1) * transfer.part_bytes - out.inter_bytes;
  return out;
}

}  // namespace memwall
