#include "runtime/sim/scaling.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/cost/collective_choice.h"

namespace memwall {
namespace {

constexpr double kLeastFactor = 1e-4, kMostFactor = 1e6;
constexpr double kPrecision = 1.001;

void scale_links(Machine& machine, bool between, double factor) {
  (between ? machine.nic : machine.link).bandwidth *= factor;
  for (TransferRate& rate : machine.transfer_rates) {
    (between ? rate.nic : rate.link).bandwidth *= factor;
  }
}

void choose_algorithms(Plan& plan, const Machine& machine) {
  const CollectiveChoice choice{{}, topology_of(machine, plan.ranks), machine};
  for (Program& program : plan.programs) {
    for (Step& step : program.steps) {
      if (step.op != Op::kAllGather && step.op != Op::kReduceScatter) continue;
      const Operand& shard = step.op == Op::kAllGather ? step.inputs[0] : step.outputs[0];
      step.algorithm = choice.of(step.op, shard.shape.elements(), shard.dtype);
    }
  }
}

}  // namespace

std::string_view name_of(Bottleneck bottleneck) {
  constexpr std::array<std::string_view, 7> names = {
      "memory capacity", "compute", "DRAM", "launches", "intra link", "inter link", "latency"};
  return names[static_cast<size_t>(bottleneck)];
}

Bottleneck bottleneck_of(const StepSeconds& seconds) {
  using Parts = std::array<std::pair<double, Bottleneck>, 3>;
  const Parts compute = {{{seconds.flops, Bottleneck::kCompute},
                          {seconds.dram, Bottleneck::kDram},
                          {seconds.launch, Bottleneck::kLaunch}}};
  const Parts communication = {{{seconds.intra, Bottleneck::kIntraLink},
                                {seconds.inter, Bottleneck::kInterLink},
                                {seconds.latency, Bottleneck::kLatency}}};
  const Parts& parts = seconds.exposed_communication() > seconds.compute ? communication : compute;
  return std::max_element(parts.begin(), parts.end(),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->second;
}

std::optional<double> link_factor_for(const Plan& plan, const Machine& machine, double seconds,
                                      Chosen chosen) {
  const bool between = topology_of(machine, plan.ranks).nodes > 1;
  Plan tried = plan;
  const auto reaches = [&](double factor) {
    Machine other = machine;
    scale_links(other, between, factor);
    if (chosen == Chosen::kByTheLinks && between) choose_algorithms(tried, other);
    return simulate(tried, other).seconds.full_overlap <= seconds;
  };
  if (!reaches(kMostFactor)) return std::nullopt;
  if (reaches(kLeastFactor)) return 0.0;
  double below = kLeastFactor, enough = kMostFactor;
  while (enough / below > kPrecision) {
    const double middle = std::sqrt(below * enough);
    (reaches(middle) ? enough : below) = middle;
  }
  return enough;
}

}  // namespace memwall
