#include "runtime/cli/fit_cluster.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <map>

#include "runtime/base/error.h"
#include "runtime/base/op.h"
#include "runtime/cli/machine.h"
#include "runtime/config/cluster.h"
#include "runtime/cost/fit.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

double per_second(int64_t amount, double seconds) {
  return static_cast<double>(amount) / seconds;
}

// The best of steps that a cache does not help: the larger half of all bytes.
double dram_bandwidth_of(const std::vector<TimedOp>& timed) {
  int64_t largest = 0;
  for (const TimedOp& t : timed) {
    if (!is_product(t.op)) largest = std::max(largest, t.point.dram_bytes / t.point.launches);
  }
  double out = 0.0;
  for (const TimedOp& t : timed) {
    if (is_product(t.op) || 2 * (t.point.dram_bytes / t.point.launches) < largest) continue;
    out = std::max(out, per_second(t.point.dram_bytes, t.point.seconds));
  }
  return out;
}

double vector_flops_of(const std::vector<TimedOp>& timed) {
  double flops = 0.0, seconds = 0.0;
  for (const TimedOp& t : timed) {
    if (is_product(t.op) || t.point.flops == 0) continue;
    flops += static_cast<double>(t.point.flops);
    seconds += t.point.seconds;
  }
  return flops > 0.0 ? flops / seconds : 0.0;
}

void set_peak(config::PeakFlops& peak, DType dtype, double flops) {
  switch (dtype) {
    case DType::kF64: return peak.set_fp64(flops);
    case DType::kF32: return peak.set_fp32(flops);
    case DType::kF16: return peak.set_fp16(flops);
    case DType::kBF16: return peak.set_bf16(flops);
    default: throw InternalError("a product of integers");
  }
}

// Sets the general rates of the device: those of all that was ever timed.
void set_rates(config::ClusterDevice& device, const std::vector<TimedOp>& timed) {
  double flops = 0.0, at_peak_seconds = 0.0, seconds = 0.0;
  std::map<DType, double> peaks;
  for (const TimedOp& t : timed) {
    if (!is_product(t.op)) continue;
    peaks[t.dtype] = std::max(peaks[t.dtype], per_second(t.point.flops, t.point.seconds));
  }
  for (const auto& [dtype, peak] : peaks) set_peak(*device.mutable_peak_flops(), dtype, peak);
  for (const TimedOp& t : timed) {
    if (!is_product(t.op)) continue;
    flops += static_cast<double>(t.point.flops);
    seconds += t.point.seconds;
    at_peak_seconds += static_cast<double>(t.point.flops) / peaks[t.dtype];
  }
  if (flops == 0.0) {
    throw InputError("no matrix product was timed", "", "a configuration with at least one layer");
  }
  device.set_gemm_fraction(std::min(1.0, at_peak_seconds / seconds));
  device.set_dram_bandwidth(dram_bandwidth_of(timed));
  device.set_dram_fraction(1.0);
  device.set_vector_flops(vector_flops_of(timed));
  device.set_launch_seconds(0.0);
}

std::vector<TimedOp> timed_of(const config::ClusterDevice& device) {
  std::vector<TimedOp> out;
  for (const config::OpRate& rate : device.op_rate()) {
    for (const config::OpRate::Timed& t : rate.timed()) {
      out.push_back({parse_op(rate.op()).value(),
                     parse_dtype(rate.dtype()).value(),
                     {t.flops(), t.bytes(), t.has_launches() ? t.launches() : 1, t.seconds()}});
    }
  }
  return out;
}

auto work(const TimedOp& t) {
  return std::tuple(t.op, t.dtype, t.point.flops, t.point.dram_bytes, t.point.launches);
}

void write_op_rate(config::OpRate& to, const OpRate& rate) {
  to.Clear();
  to.set_op(std::string(op_name(rate.op)));
  to.set_dtype(std::string(name_of(rate.dtype)));
  to.set_launch_seconds(rate.launch_seconds);
  if (rate.flops > 0.0) to.set_flops_per_second(rate.flops);
  if (rate.bandwidth > 0.0) to.set_bytes_per_second(rate.bandwidth);
  for (const OpRate::Correction& c : rate.corrections) {
    config::OpRate::Timed& t = *to.add_timed();
    t.set_flops(c.point.flops);
    t.set_bytes(c.point.dram_bytes);
    t.set_launches(c.point.launches);
    t.set_seconds(c.point.seconds);
  }
}

void write_transfer_rate(config::CollectiveRate& to, const TransferRate& rate) {
  to.Clear();
  to.set_collective(std::string(op_name(rate.op)));
  to.set_algorithm(std::string(name_of(rate.algorithm)));
  to.set_transport(std::string(name_of(rate.transport)));
  if (rate.link.bandwidth > 0.0) {
    to.set_link_bandwidth(rate.link.bandwidth);
    to.set_link_latency(rate.link.latency_seconds);
  }
  if (rate.nic.bandwidth > 0.0) {
    to.set_nic_bandwidth(rate.nic.bandwidth);
    to.set_nic_latency(rate.nic.latency_seconds);
  }
  for (const TransferRate::Correction& c : rate.corrections) {
    config::CollectiveRate::Timed& t = *to.add_timed();
    t.set_ranks(c.point.ranks);
    t.set_ranks_a_node(c.point.ranks_a_node);
    t.set_part_bytes(c.point.part_bytes);
    t.set_seconds(c.point.seconds);
  }
}

config::CollectiveRate& rate_for(config::ClusterNode& node, const TimedCollective& timed) {
  for (config::CollectiveRate& rate : *node.mutable_collective_rate()) {
    if (rate.collective() == op_name(timed.op) && rate.algorithm() == name_of(timed.algorithm) &&
        rate.transport() == name_of(timed.transport)) {
      return rate;
    }
  }
  return *node.add_collective_rate();
}

// Older points of the rate that no new one is of, and the new ones.
std::vector<TimedTransfer> all_points(const config::CollectiveRate& old,
                                      const TimedCollective& timed) {
  std::vector<TransferPoint> points = timed.points;
  for (const config::CollectiveRate::Timed& t : old.timed()) {
    const TransferPoint point{t.ranks(), t.ranks_a_node(), t.part_bytes(), t.seconds()};
    const bool newer = std::any_of(points.begin(), points.end(), [&](const TransferPoint& p) {
      return p.ranks == point.ranks && p.ranks_a_node == point.ranks_a_node &&
             p.part_bytes == point.part_bytes;
    });
    if (!newer) points.push_back(point);
  }
  std::vector<TimedTransfer> out;
  for (const TransferPoint& p : points) {
    out.push_back(
        {p, exchange_rounds(timed.op, timed.transport, p.ranks, p.part_bytes, DType::kF32)});
  }
  return out;
}

void set_link(config::ClusterNode& node, const Link& link) {
  node.set_link_bandwidth(link.bandwidth);
  node.set_link_fraction(1.0);
  node.set_link_latency(link.latency_seconds);
}

// The general links from those of the all-gather, the best known last.
void set_general_links(config::Cluster& cluster) {
  config::ClusterNode& node = *cluster.mutable_node();
  constexpr std::array kWays = {std::pair{Algorithm::kPairwise, Transport::kMpi},
                                std::pair{Algorithm::kRing, Transport::kMpi},
                                std::pair{Algorithm::kPairwise, Transport::kSharedMemory}};
  for (const auto& [algorithm, transport] : kWays) {
    for (const config::CollectiveRate& rate : node.collective_rate()) {
      if (rate.collective() != op_name(Op::kAllGather) || rate.algorithm() != name_of(algorithm) ||
          rate.transport() != name_of(transport)) {
        continue;
      }
      if (rate.has_link_bandwidth()) set_link(node, {rate.link_bandwidth(), rate.link_latency()});
      if (!rate.has_nic_bandwidth()) continue;
      node.set_nics(1);
      node.set_nic_bandwidth(rate.nic_bandwidth());
      node.set_nic_fraction(1.0);
      node.set_nic_latency(rate.nic_latency());
      cluster.mutable_network()->set_efficiency(1.0);
    }
  }
}

}  // namespace

std::string TimedOn::device_name() const {
  return fmt::format("{} thread{} of {}", threads, threads == 1 ? "" : "s", processor);
}

void check_describes(const config::Cluster& cluster, const std::string& file, const TimedOn& here) {
  const int64_t ranks = cluster.node().devices();
  const auto is_here = [&](const std::string& there, const std::string& found) {
    if (there == found) return;
    throw InputError(fmt::format("describes {}, and here are {}", there, found), file,
                     "name another file, or start as it says");
  };
  const std::string name = cluster.device().name(), mine = here.device_name();
  is_here(fmt::format("devices of \"{}\"", name), fmt::format("devices of \"{}\"", mine));
  is_here(fmt::format("nodes of {} ranks", ranks),
          fmt::format("nodes of {} ranks", here.ranks_a_node));
}

config::Cluster cluster_of(const std::vector<TimedOp>& timed, const TimedOn& here,
                           int64_t memory_bytes) {
  config::Cluster out;
  config::ClusterDevice& device = *out.mutable_device();
  device.set_name(here.device_name());
  device.set_memory(fmt::format("{}B", memory_bytes));
  set_rates(device, timed);
  config::ClusterNode& node = *out.mutable_node();
  node.set_devices(here.ranks_a_node);
  node.set_nics(0);
  set_link(node, {0.5 * device.dram_bandwidth(), 0.0});
  add_ops(out, timed);
  return out;
}

void add_ops(config::Cluster& cluster, const std::vector<TimedOp>& timed) {
  config::ClusterDevice& device = *cluster.mutable_device();
  std::vector<TimedOp> all = timed;
  for (const TimedOp& old : timed_of(device)) {
    const bool newer = std::any_of(timed.begin(), timed.end(),
                                   [&](const TimedOp& t) { return work(t) == work(old); });
    if (!newer) all.push_back(old);
  }
  set_rates(device, all);
  std::map<std::pair<Op, DType>, std::vector<OpPoint>> kinds;
  for (const TimedOp& t : all) kinds[{t.op, t.dtype}].push_back(t.point);
  device.clear_op_rate();
  for (const auto& [kind, points] : kinds) {
    write_op_rate(*device.add_op_rate(),
                  fit_op_rate(kind.first, kind.second, points, device.dram_bandwidth()));
  }
}

void add_collectives(config::Cluster& cluster, const std::string& file,
                     const std::vector<TimedCollective>& timed) {
  config::ClusterNode& node = *cluster.mutable_node();
  for (const TimedCollective& t : timed) {
    for (const TransferPoint& p : t.points) {
      if (p.ranks_a_node == node.devices()) continue;
      throw InputError(fmt::format("describes nodes of {} ranks, and these have {}", node.devices(),
                                   p.ranks_a_node),
                       file, "start as many on each host, or name another file");
    }
  }
  for (const TimedCollective& t : timed) {
    const Machine machine = machine_of(cluster, file);  // as it was: without an empty rate
    config::CollectiveRate& rate = rate_for(node, t);
    const TransferRate fitted =
        fit_transfer_rate(t.op, t.algorithm, t.transport, all_points(rate, t), machine);
    write_transfer_rate(rate, fitted);
  }
  set_general_links(cluster);
}

void write_fit(const std::string& file, const config::Cluster& cluster, const std::string& done) {
  std::vector<std::string> header;
  if (fs::exists(file)) header = cluster_header(file);
  header.push_back(fmt::format("{:%Y-%m-%d}: {}", fmt::localtime(std::time(nullptr)), done));
  const std::string unfinished = file + ".unfinished";
  write_cluster(unfinished, cluster, header);
  fs::rename(unfinished, file);
}

}  // namespace memwall
