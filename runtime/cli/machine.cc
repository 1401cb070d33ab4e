#include "runtime/cli/machine.h"

#include <fmt/format.h>

#include <initializer_list>

#include "comm/make_communicator.h"
#include "runtime/cli/settings.h"
#include "runtime/config/units.h"
#include "runtime/cost/op_cost.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

template <class Value>
Value named(const std::string& name, std::initializer_list<Value> values) {
  for (Value value : values) {
    if (name_of(value) == name) return value;
  }
  throw InternalError("a name that the description's checks let pass", name);
}

OpRate op_rate_of(const config::OpRate& given) {
  OpRate out{.op = parse_op(given.op()).value(),
             .dtype = parse_dtype(given.dtype()).value(),
             .launch_seconds = given.launch_seconds(),
             .flops = given.flops_per_second(),
             .bandwidth = given.bytes_per_second(),
             .corrections = {}};
  std::vector<OpPoint> points;
  for (const config::OpRate::Timed& t : given.timed()) {
    points.push_back({t.flops(), t.bytes(), t.has_launches() ? t.launches() : 1, t.seconds()});
  }
  correct(out, points);
  return out;
}

// `machine`: its links, for what the rate does not have.
TransferRate transfer_rate_of(const config::CollectiveRate& given, const Machine& machine) {
  TransferRate out{
      .op = parse_op(given.collective()).value(),
      .algorithm =
          named(given.algorithm(), {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}),
      .transport = named(given.transport(), {Transport::kMpi, Transport::kSharedMemory}),
      .link = {given.link_bandwidth(), given.link_latency()},
      .nic = {given.nic_bandwidth(), given.nic_latency()},
      .corrections = {}};
  std::vector<TimedTransfer> timed;
  for (const config::CollectiveRate::Timed& t : given.timed()) {
    timed.push_back(
        {{t.ranks(), t.ranks_a_node(), t.part_bytes(), t.seconds()},
         exchange_rounds(out.op, out.transport, t.ranks(), t.part_bytes(), DType::kF32)});
  }
  correct(out, machine, timed);
  return out;
}

}  // namespace

Machine machine_of(const config::Cluster& cluster, const std::string& file) {
  const config::ClusterDevice& device = cluster.device();
  const config::ClusterNode& node = cluster.node();
  const double gemm = device.gemm_fraction();
  const config::PeakFlops& peak = device.peak_flops();
  Machine out;
  out.name = file;
  out.gemm_flops = {.fp64 = peak.fp64() * gemm,
                    .fp32 = peak.fp32() * gemm,
                    .fp16 = peak.fp16() * gemm,
                    .bf16 = peak.bf16() * gemm};
  out.vector_flops = device.vector_flops();
  out.dram_bandwidth = device.dram_bandwidth() * device.dram_fraction();
  out.launch_seconds = device.launch_seconds();
  out.memory_bytes = parse_bytes(device.memory());
  out.devices = node.devices();
  out.link = {node.link_bandwidth() * node.link_fraction(), node.link_latency()};
  out.nics = node.nics();
  out.nic = {node.nic_bandwidth() * node.nic_fraction() * cluster.network().efficiency(),
             node.nic_latency()};
  out.step_seconds = device.step_seconds();
  out.skew_seconds = device.skew_seconds();
  for (const config::OpRate& rate : device.op_rate()) out.op_rates.push_back(op_rate_of(rate));
  for (const config::CollectiveRate& rate : node.collective_rate()) {
    out.transfer_rates.push_back(transfer_rate_of(rate, out));
  }
  return out;
}

CompileSettings compile_settings_on(const Machine& machine, const config::Config& config,
                                    int64_t ranks) {
  const int64_t a_node = topology_of(machine, ranks).ranks_a_node;
  const Hosting hosting{ranks, a_node, a_node};
  CompileSettings out = compile_settings(config, hosting);
  // What NCCL does is predicted as our own rings and levels would do it.
  if (on_gpu(config)) out.fabric = choose_fabric({}, hosting);
  if (!config.communication().has_cluster()) out.collectives.network = machine;
  return out;
}

nlohmann::ordered_json step_seconds_json(const StepSeconds& s) {
  return {{"full_overlap", exact(s.full_overlap)},
          {"no_overlap", exact(s.no_overlap)},
          {"compute", exact(s.compute)},
          {"communication", exact(s.communication)},
          {"exposed_communication", exact(s.exposed_communication())},
          {"skew", exact(s.skew)},
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
