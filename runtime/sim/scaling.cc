#include "runtime/sim/scaling.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace memwall {
namespace {

constexpr double kLeastFactor = 1e-4, kMostFactor = 1e6;
constexpr double kPrecision = 1.001;

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

std::optional<double> link_factor_for(const Plan& plan, const Machine& machine, double seconds) {
  const bool between = topology_of(machine, plan.ranks).nodes > 1;
  const auto reaches = [&](double factor) {
    Machine other = machine;
    (between ? other.nic : other.link).bandwidth *= factor;
    return simulate(plan, other).seconds.full_overlap <= seconds;
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
