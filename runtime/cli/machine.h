// From the description of a cluster to the machine of the cost model, and a plan's prediction on
// it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "configs/cluster.pb.h"
#include "runtime/config/config.h"
#include "runtime/cost/machine.h"
#include "runtime/passes/compile.h"
#include "runtime/sim/simulate.h"

namespace memwall {

// `file`: of the description, for messages.
Machine machine_of(const config::Cluster& cluster, const std::string& file);

// As for one host, but for the transport: that of ranks which fill the machine's nodes in order.
CompileSettings compile_settings_on(const Machine& machine, const config::Config& config,
                                    int64_t ranks);

// {full_overlap, no_overlap, compute, communication, exposed_communication, skew, bound: {...}}
nlohmann::ordered_json step_seconds_json(const StepSeconds& seconds);
nlohmann::ordered_json link_bytes_json(const LinkBytes& bytes);
std::string seconds_text(double seconds);  // "1.24 s", "830 ms"

}  // namespace memwall
