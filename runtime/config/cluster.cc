#include "runtime/config/cluster.h"

#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "runtime/config/cluster_rates.h"
#include "runtime/config/fields.h"
#include "runtime/config/problem.h"
#include "runtime/config/range.h"
#include "runtime/config/text_file.h"
#include "runtime/config/units.h"

namespace memwall {
namespace {

constexpr double kMostDevices = 4096.0;

constexpr Range fraction(std::string_view field) {
  return {field, 0.0, 1.0, false, true};
}

constexpr std::array kRanges = {
    above_zero("device.peak_flops.fp64"),   above_zero("device.peak_flops.fp32"),
    above_zero("device.peak_flops.fp16"),   above_zero("device.peak_flops.bf16"),
    fraction("device.gemm_fraction"),       above_zero("device.vector_flops"),
    above_zero("device.dram_bandwidth"),    fraction("device.dram_fraction"),
    at_least_zero("device.launch_seconds"), at_least_zero("device.step_seconds"),
    at_least_zero("device.skew_seconds"),   Range{"node.devices", 1.0, kMostDevices},
    above_zero("node.link_bandwidth"),      fraction("node.link_fraction"),
    at_least_zero("node.link_latency"),     Range{"node.nics", 0.0, kMostDevices},
    above_zero("node.nic_bandwidth"),       fraction("node.nic_fraction"),
    at_least_zero("node.nic_latency"),      fraction("network.efficiency"),
};
constexpr std::array<std::string_view, 4> kPeaks = {
    "device.peak_flops.fp64", "device.peak_flops.fp32", "device.peak_flops.fp16",
    "device.peak_flops.bf16"};
constexpr std::array<std::string_view, 10> kRequired = {
    "device.gemm_fraction",  "device.vector_flops", "device.dram_bandwidth", "device.dram_fraction",
    "device.launch_seconds", "device.memory",       "node.devices",          "node.link_bandwidth",
    "node.link_fraction",    "node.link_latency"};
// Of the network between nodes: all or none.
constexpr std::array<std::string_view, 3> kBetweenNodes = {"node.nic_bandwidth",
                                                           "node.nic_fraction", "node.nic_latency"};

class Check {
 public:
  Check(const config::Cluster& cluster, const std::string& file, const Places& places)
      : cluster_(cluster), file_(file), places_(places) {}

  std::vector<Problem> run() {
    for (std::string_view field : kRequired) require(field);
    if (std::none_of(kPeaks.begin(), kPeaks.end(),
                     [&](std::string_view peak) { return has_field(cluster_, peak); })) {
      add("device.peak_flops", "is missing", "fp64, fp32, fp16, bf16: at least one");
    }
    require("node.nics");
    if (cluster_.node().nics() > 0) {
      for (std::string_view field : kBetweenNodes) require(field);
    } else if (cluster_.node().has_nics()) {
      for (std::string_view field : kBetweenNodes) refuse(field);
      refuse("network.efficiency");
    }
    for (const Range& range : kRanges) {
      const std::optional<double> value = number_of(cluster_, range.field);
      if (!value || range.contains(*value)) continue;
      add(range.field, fmt::format("{} is out of range", value_text(cluster_, range.field)),
          range.text());
    }
    check_memory();
    for (Problem& problem : problems_of_rates(
             cluster_, [&](std::string_view field) { return place_of(file_, places_, field); })) {
      problems_.push_back(std::move(problem));
    }
    return std::move(problems_);
  }

 private:
  void add(std::string_view field, std::string reason, std::string allowed) {
    problems_.push_back({place_of(file_, places_, field), std::move(reason), std::move(allowed)});
  }
  void require(std::string_view field) {
    if (has_field(cluster_, field)) return;
    add(field, "is missing", allowed_values(*find_field(field, *cluster_.GetDescriptor()).leaf()));
  }
  void refuse(std::string_view field) {
    if (has_field(cluster_, field)) add(field, "has no effect with node.nics 0", "leave it out");
  }
  void check_memory() {
    if (!cluster_.device().has_memory()) return;
    try {
      parse_bytes(cluster_.device().memory());
    } catch (const InputError& error) {
      add("device.memory", error.what(), "");
    }
  }

  const config::Cluster& cluster_;
  const std::string& file_;
  const Places& places_;
  std::vector<Problem> problems_;
};

}  // namespace

config::Cluster load_cluster(const std::string& path) {
  config::Cluster out;
  const Places places = read_text_file(path, {"cluster", "configs/clusters/*.textproto"}, out);
  throw_problems(Check(out, path, places).run());
  if (!out.device().has_name()) out.mutable_device()->set_name("device");
  if (!out.network().has_efficiency()) out.mutable_network()->set_efficiency(1.0);
  return out;
}

void write_cluster(const std::string& path, const config::Cluster& cluster,
                   const std::vector<std::string>& header) {
  config::Cluster given = cluster;  // without what load_cluster fills in and would refuse
  if (given.node().nics() == 0) given.clear_network();
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  std::string text;
  for (const std::string& line : header) text += line.empty() ? "#\n" : "# " + line + '\n';
  std::string body;
  check(printer.PrintToString(given, &body), "a description prints as text");
  std::ofstream file(path, std::ios::binary);
  file << text << body;
  file.close();
  if (!file) throw InputError("cannot be written", path, "name a file in a folder that exists");
}

std::vector<std::string> cluster_header(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> out;
  for (std::string line; std::getline(file, line) && line.starts_with('#');) {
    out.push_back(line.substr(std::min(line.size(), line.starts_with("# ") ? size_t{2} : 1)));
  }
  return out;
}

}  // namespace memwall
