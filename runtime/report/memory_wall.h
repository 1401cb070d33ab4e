// Where a run stands against the memory wall: a rank's work in a step, as its plan has it, beside
// what generations of hardware compute, move and hold (a roofline, Williams et al. 2009).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace memwall {

// Peaks of one device, by its data sheet.
struct Generation {
  std::string name, source;
  double year = 0.0;            // 0: not said
  double flops = 0.0;           // FLOP/s of products in the run's precision; 0: it has none
  double dram_bandwidth = 0.0;  // bytes/s
  double memory_bytes = 0.0;
  double link_bandwidth = 0.0;  // bytes/s of one direction, to the others of its node
  double nic_bandwidth = 0.0;   // bytes/s of one direction, its share of the node's; 0: none
};

// Those of hardware.json, for "FP32", "FP16", "BF16" or "FP64".
std::vector<Generation> generations(const std::string& precision);

// A rank's, in one step.
struct RankWork {
  double flops = 0.0;       // model, recomputed and tangent
  double dram_bytes = 0.0;  // operands of all steps, read and written once each
  double link_bytes = 0.0;  // sent
  double held_bytes = 0.0;  // planned
  int64_t ranks = 1;
};
RankWork rank_work(const Plan& plan);

enum class Wall : uint8_t { kCapacity, kCompute, kDram, kLink };
std::string_view name_of(Wall wall);

// A run on a generation. Up to 8 ranks share a node, and send over its links; more send over NICs.
// Seconds are those of the peaks, so each is a bound from below.
struct OnHardware {
  double dram_ridge = 0.0, link_ridge = 0.0;  // FLOP/byte above which compute is the slower one
  double compute_seconds = 0.0, dram_seconds = 0.0, link_seconds = 0.0;
  double capacity_share = 0.0;  // of the device's memory that the plan takes
  bool fits = true;
  Wall wall = Wall::kCompute;  // capacity where it does not fit, else the largest of the seconds
};
OnHardware place_on(const Generation& generation, const RankWork& work);

// What kinds of steps there are in a training step, with their FLOPs and bytes, most bytes first:
// [{"name", "flops", "dram_bytes", "calls"}]; their bytes add up to the step's. Bodies of chunked
// steps count by what is in them.
nlohmann::ordered_json parts_of(const Plan& plan);

// {"work", "parts", "generations": [{..., "placement": {...}}], "trends"}
nlohmann::ordered_json memory_wall_json(const Plan& plan, const std::string& precision,
                                        const std::vector<Generation>& more);

}  // namespace memwall
