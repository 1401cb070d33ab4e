#include "runtime/cli/machine.h"

#include <fmt/format.h>

#include "comm/make_communicator.h"
#include "runtime/cli/settings.h"
#include "runtime/config/units.h"
#include "runtime/train/metrics.h"

namespace memwall {

Machine machine_of(const config::Cluster& cluster, const std::string& file) {
  const config::ClusterDevice& device = cluster.device();
  const config::ClusterNode& node = cluster.node();
  const double gemm = device.gemm_fraction();
  const config::PeakFlops& peak = device.peak_flops();
  return {.name = file,
          .gemm_flops = {.fp64 = peak.fp64() * gemm,
                         .fp32 = peak.fp32() * gemm,
                         .fp16 = peak.fp16() * gemm,
                         .bf16 = peak.bf16() * gemm},
          .vector_flops = device.vector_flops(),
          .dram_bandwidth = device.dram_bandwidth() * device.dram_fraction(),
          .launch_seconds = device.launch_seconds(),
          .memory_bytes = parse_bytes(device.memory()),
          .devices = node.devices(),
          .link = {node.link_bandwidth() * node.link_fraction(), node.link_latency()},
          .nics = node.nics(),
          .nic = {node.nic_bandwidth() * node.nic_fraction() * cluster.network().efficiency(),
                  node.nic_latency()}};
}

CompileSettings compile_settings_on(const Machine& machine, const config::Config& config,
                                    int64_t ranks) {
  CompileSettings out = compile_settings(config, ranks);
  out.transport = choose_transport(asked_transport(config.communication()), ranks,
                                   topology_of(machine, ranks).ranks_a_node);
  return out;
}

nlohmann::ordered_json step_seconds_json(const StepSeconds& s) {
  return {{"full_overlap", exact(s.full_overlap)},
          {"no_overlap", exact(s.no_overlap)},
          {"compute", exact(s.compute)},
          {"communication", exact(s.communication)},
          {"exposed_communication", exact(s.exposed_communication())},
          {"bound",
           {{"launches", exact(s.launch)},
            {"flops", exact(s.flops)},
            {"dram", exact(s.dram)},
            {"intra_link", exact(s.intra)},
            {"inter_link", exact(s.inter)},
            {"latency", exact(s.latency)}}}};
}

nlohmann::ordered_json link_bytes_json(const LinkBytes& bytes) {
  return {{"intra", bytes.intra}, {"inter", bytes.inter}};
}

std::string seconds_text(double seconds) {
  if (seconds == 0.0) return "0";
  if (seconds >= 1.0) return fmt::format("{:.3g} s", seconds);
  return seconds >= 1e-3 ? fmt::format("{:.3g} ms", 1e3 * seconds)
                         : fmt::format("{:.3g} us", 1e6 * seconds);
}

}  // namespace memwall
