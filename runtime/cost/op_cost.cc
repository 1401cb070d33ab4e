#include "runtime/cost/op_cost.h"

#include <cmath>

namespace memwall {
namespace {

OpSeconds by_rates(const OpRate& rate, double flops, double bytes, double launches) {
  return {.launch = launches * rate.launch_seconds,
          .flops = rate.flops > 0.0 ? flops / rate.flops : 0.0,
          .dram = rate.bandwidth > 0.0 ? bytes / rate.bandwidth : 0.0};
}

OpSeconds by_rates(const OpRate& rate, const OpPoint& p) {
  return by_rates(rate, static_cast<double>(p.flops), static_cast<double>(p.dram_bytes),
                  static_cast<double>(p.launches));
}

// Of a launch, at least 1.
double size_of_launch(Op op, int64_t flops, int64_t bytes, int64_t launches) {
  const int64_t amount = is_product(op) ? flops : bytes;
  return std::max(1.0, static_cast<double>(amount) / static_cast<double>(launches));
}

bool same_work(const OpPoint& p, const OpWork& work) {
  return p.flops == work.flops && p.dram_bytes == work.dram_bytes && p.launches == work.launches;
}

double correction_of(const OpRate& rate, const OpWork& work) {
  if (rate.corrections.empty()) return 1.0;
  for (const OpRate::Correction& c : rate.corrections) {
    if (same_work(c.point, work)) return c.factor;
  }
  const double size = size_of_launch(work.op, work.flops, work.dram_bytes, work.launches);
  const auto above = std::find_if(rate.corrections.begin(), rate.corrections.end(),
                                  [&](const OpRate::Correction& c) { return c.size >= size; });
  if (above == rate.corrections.begin()) return above->factor;
  if (above == rate.corrections.end()) return rate.corrections.back().factor;
  const OpRate::Correction& low = *(above - 1);
  const double share = std::log(size / low.size) / std::log(above->size / low.size);
  return low.factor + share * (above->factor - low.factor);
}

OpSeconds scaled_by(OpSeconds seconds, double factor) {
  return {seconds.launch * factor, seconds.flops * factor, seconds.dram * factor};
}

}  // namespace

OpSeconds op_seconds(const Machine& machine, const OpWork& work) {
  const auto flops = static_cast<double>(work.flops);
  const auto bytes = static_cast<double>(work.dram_bytes);
  const auto launches = static_cast<double>(work.launches);
  if (const OpRate* rate = find_op_rate(machine, work.op, work.dtype)) {
    return scaled_by(by_rates(*rate, flops, bytes, launches), correction_of(*rate, work));
  }
  const double rate = is_product(work.op) ? gemm_flops(machine, work.dtype) : machine.vector_flops;
  return {.launch = launches * machine.launch_seconds,
          .flops = flops / rate,
          .dram = bytes / machine.dram_bandwidth};
}

void correct(OpRate& rate, const std::vector<OpPoint>& points) {
  rate.corrections.clear();
  for (const OpPoint& p : points) {
    const double expected = by_rates(rate, p).seconds();
    if (expected <= 0.0) continue;
    rate.corrections.push_back(
        {p, size_of_launch(rate.op, p.flops, p.dram_bytes, p.launches), p.seconds / expected});
  }
  std::stable_sort(rate.corrections.begin(), rate.corrections.end(),
                   [](const auto& a, const auto& b) { return a.size < b.size; });
}

}  // namespace memwall
