#include "runtime/sim/scaling.h"

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
  const double share =
      seconds.communication > 0.0 ? seconds.exposed_communication() / seconds.communication : 0.0;
  const std::array<std::pair<double, Bottleneck>, 6> parts = {{
      {seconds.flops, Bottleneck::kCompute},
      {seconds.dram, Bottleneck::kDram},
      {seconds.launch, Bottleneck::kLaunch},
      {share * seconds.intra, Bottleneck::kIntraLink},
      {share * seconds.inter, Bottleneck::kInterLink},
      {share * seconds.latency, Bottleneck::kLatency},
  }};
  auto most = parts.begin();
  for (auto part = parts.begin(); part != parts.end(); ++part) {
    if (part->first > most->first) most = part;
  }
  return most->second;
}

std::optional<double> link_factor_for(const Plan& plan, const Machine& machine, Algorithm algorithm,
                                      double seconds) {
  const bool between = topology_of(machine, plan.ranks).nodes > 1;
  const auto reaches = [&](double factor) {
    Machine other = machine;
    (between ? other.nic : other.link).bandwidth *= factor;
    return simulate(plan, other, algorithm).seconds.full_overlap <= seconds;
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
