#include "runtime/config/cluster_rates.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <set>
#include <tuple>

#include "runtime/base/collective.h"
#include "runtime/base/dtype.h"
#include "runtime/base/op.h"

namespace memwall {
namespace {

constexpr std::array<std::string_view, 3> kCollectives = {"all_gather", "reduce_scatter",
                                                          "all_reduce"};
constexpr std::array<std::string_view, 3> kAlgorithms = {"pairwise", "ring", "two_level"};
constexpr std::array<std::string_view, 2> kTransports = {"MPI", "SHARED_MEMORY"};

template <size_t N>
bool is_one_of(const std::string& word, const std::array<std::string_view, N>& words) {
  for (std::string_view w : words) {
    if (w == word) return true;
  }
  return false;
}

bool is_rate(double x) {
  return std::isfinite(x) && x > 0.0;
}
bool is_time(double x) {
  return std::isfinite(x) && x >= 0.0;
}

class Rates {
 public:
  explicit Rates(const std::function<std::string(std::string_view)>& place) : place_(place) {}

  void check(const config::OpRate& rate, int index) {
    at_ = place_(fmt::format("device.op_rate")) + fmt::format("[{}]", index);
    if (!parse_op(rate.op())) {
      add("op", fmt::format("\"{}\" is no operation", rate.op()), "as in memwall plan --dump");
    }
    if (!parse_dtype(rate.dtype())) {
      add("dtype", fmt::format("\"{}\" is no type", rate.dtype()), "f16, bf16, f32, f64, i32, i64");
    }
    if (!rate.has_flops_per_second() && !rate.has_bytes_per_second()) {
      add("flops_per_second", "is missing", "it, or bytes_per_second, or both");
    }
    if (rate.has_flops_per_second()) above_zero("flops_per_second", rate.flops_per_second());
    if (rate.has_bytes_per_second()) above_zero("bytes_per_second", rate.bytes_per_second());
    if (!is_time(rate.launch_seconds())) {
      add("launch_seconds", fmt::format("{} is out of range", rate.launch_seconds()), "at least 0");
    }
    for (const config::OpRate::Timed& timed : rate.timed()) check(timed);
    if (!seen_.insert({rate.op(), rate.dtype(), ""}).second) {
      add("op", fmt::format("{} of {} is given more than once", rate.op(), rate.dtype()), "");
    }
  }

  void check(const config::CollectiveRate& rate, int index) {
    at_ = place_("node.collective_rate") + fmt::format("[{}]", index);
    one_of("collective", rate.collective(), kCollectives, "all_gather, reduce_scatter, all_reduce");
    one_of("algorithm", rate.algorithm(), kAlgorithms, "pairwise, ring, two_level");
    one_of("transport", rate.transport(), kTransports, "MPI, SHARED_MEMORY");
    both("link", rate.has_link_bandwidth(), rate.link_bandwidth(), rate.has_link_latency(),
         rate.link_latency());
    both("nic", rate.has_nic_bandwidth(), rate.nic_bandwidth(), rate.has_nic_latency(),
         rate.nic_latency());
    if (!rate.has_link_bandwidth() && !rate.has_nic_bandwidth()) {
      add("link_bandwidth", "is missing", "it, or nic_bandwidth, or both");
    }
    for (const config::CollectiveRate::Timed& timed : rate.timed()) check(timed);
    if (!seen_.insert({rate.collective(), rate.algorithm(), rate.transport()}).second) {
      add("collective",
          fmt::format("{} by {} over {} is given more than once", rate.collective(),
                      rate.algorithm(), rate.transport()),
          "");
    }
  }

  std::vector<Problem> take() { return std::move(problems_); }

 private:
  void add(std::string_view field, std::string reason, std::string allowed) {
    problems_.push_back({fmt::format("{}.{}", at_, field), std::move(reason), std::move(allowed)});
  }
  void above_zero(std::string_view field, double value) {
    if (!is_rate(value)) add(field, fmt::format("{} is out of range", value), "above 0");
  }
  template <size_t N>
  void one_of(std::string_view field, const std::string& value,
              const std::array<std::string_view, N>& words, const char* allowed) {
    if (!is_one_of(value, words)) add(field, fmt::format("\"{}\" is unknown", value), allowed);
  }
  void both(std::string_view link, bool has_bandwidth, double bandwidth, bool has_latency,
            double latency) {
    if (has_bandwidth != has_latency) {
      add(fmt::format("{}_{}", link, has_bandwidth ? "latency" : "bandwidth"), "is missing",
          "both of a link, or neither");
      return;
    }
    if (has_bandwidth) above_zero(fmt::format("{}_bandwidth", link), bandwidth);
    if (has_latency && !is_time(latency)) {
      add(fmt::format("{}_latency", link), fmt::format("{} is out of range", latency),
          "at least 0");
    }
  }
  void check(const config::OpRate::Timed& t) {
    if (!is_rate(t.seconds())) {
      add("timed.seconds", fmt::format("{} is out of range", t.seconds()), "above 0");
    }
    const bool counts = t.flops() >= 0 && t.bytes() >= 0 && t.flops() + t.bytes() > 0;
    if (!counts || (t.has_launches() && t.launches() < 1)) {
      add("timed", "has no FLOPs, bytes or launches",
          "FLOPs or bytes above 0, launches at least 1");
    }
  }
  void check(const config::CollectiveRate::Timed& t) {
    if (!is_rate(t.seconds())) {
      add("timed.seconds", fmt::format("{} is out of range", t.seconds()), "above 0");
    }
    if (t.ranks_a_node() < 1 || t.ranks() < 2 || t.ranks() % t.ranks_a_node() != 0) {
      add("timed.ranks",
          fmt::format("{} ranks do not fill whole nodes of {}", t.ranks(), t.ranks_a_node()),
          "a multiple of ranks_a_node, at least 2");
    }
    if (t.part_bytes() < 1) add("timed.part_bytes", "is missing", "at least 1");
  }

  const std::function<std::string(std::string_view)>& place_;
  std::string at_;
  std::set<std::tuple<std::string, std::string, std::string>> seen_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> problems_of_rates(const config::Cluster& cluster,
                                       const std::function<std::string(std::string_view)>& place) {
  Rates rates(place);
  for (int i = 0; i < cluster.device().op_rate_size(); ++i) {
    rates.check(cluster.device().op_rate(i), i);
  }
  for (int i = 0; i < cluster.node().collective_rate_size(); ++i) {
    rates.check(cluster.node().collective_rate(i), i);
  }
  return rates.take();
}

}  // namespace memwall
