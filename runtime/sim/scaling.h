// What limits a step, and which link would not.
#pragma once

#include <optional>
#include <string_view>

#include "runtime/sim/simulate.h"

namespace memwall {

enum class Bottleneck : uint8_t {
  kMemoryCapacity,  // the plan does not fit a device
  kCompute,         // FLOPs of products and the rest
  kDram,            // bytes to and from the device's memory
  kLaunch,          // starting kernels
  kIntraLink,       // bytes inside a node
  kInterLink,       // bytes between nodes
  kLatency,         // messages that follow each other
};
std::string_view name_of(Bottleneck bottleneck);

// Of a plan that fits: the largest part of communication where more of full_overlap is exposed
// communication than compute, else the largest part of compute.
Bottleneck bottleneck_of(const StepSeconds& seconds);

// Whose links decide by which algorithm a collective goes.
enum class Chosen {
  kByPlan,      // the plan's algorithms stay
  kByTheLinks,  // each bandwidth that is tried has its own (cost/collective_choice.h)
};

// The smallest factor of the links' bandwidth (between nodes where the ranks are on several, else
// inside the node) with which a step takes at most `seconds`, to 0.1 %. Measured rates of
// collectives are scaled as the general ones. nullopt: no bandwidth does, for compute or latency
// alone take longer. 0: even a ten-thousandth is enough.
std::optional<double> link_factor_for(const Plan& plan, const Machine& machine, double seconds,
                                      Chosen chosen = Chosen::kByPlan);

}  // namespace memwall
