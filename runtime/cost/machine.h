// A machine as the cost model sees it: what its devices and links reach, not what their data sheets
// promise. Rates are per second; a link's bandwidth is that of one direction, both at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/collective.h"
#include "runtime/base/dtype.h"
#include "runtime/base/op.h"

namespace memwall {

struct GemmFlops {  // FLOP/s of a device's matrix products, 0: not known
  double fp64 = 0.0, fp32 = 0.0, fp16 = 0.0, bf16 = 0.0;
  bool operator==(const GemmFlops&) const = default;
};

struct Link {
  double bandwidth = 0.0;        // bytes/s
  double latency_seconds = 0.0;  // of a message
  bool operator==(const Link&) const = default;
};

// A step that was timed: its FLOPs and bytes as the plan counts them, over all its launches.
struct OpPoint {
  int64_t flops = 0, dram_bytes = 0, launches = 1;
  double seconds = 0.0;
  bool operator==(const OpPoint&) const = default;
};

// What one kind of operation was measured to reach, in the place of the device's general rates
// (op_cost.h has the formulas). `dtype`: of the step's first operand.
struct OpRate {
  Op op = Op::kCopy;
  DType dtype = DType::kF32;
  double launch_seconds = 0.0;
  double flops = 0.0;      // FLOP/s, 0: bytes alone decide
  double bandwidth = 0.0;  // bytes/s, 0: FLOPs alone decide
  // The timed seconds of steps over those of the three numbers above: see op_cost.h. Ascending by
  // `size`; only what was timed.
  struct Correction {
    OpPoint point;
    double size = 0.0;
    double factor = 1.0;
    bool operator==(const Correction&) const = default;
  };
  std::vector<Correction> corrections;
  bool operator==(const OpRate&) const = default;
};

// A collective that was timed, `ranks_a_node` of `ranks` on each node: each rank has a part of
// `part_bytes` for each other one.
struct TransferPoint {
  int64_t ranks = 1, ranks_a_node = 1;
  int64_t part_bytes = 0;
  double seconds = 0.0;
  bool operator==(const TransferPoint&) const = default;
};

// What one collective was measured to reach, in the place of the node's general links
// (collective_cost.h has the formulas).
struct TransferRate {
  Op op = Op::kAllGather;
  Algorithm algorithm = Algorithm::kPairwise;
  Transport transport = Transport::kMpi;
  Link link;  // inside a node; bandwidth 0: not measured, the machine's
  Link nic;   // of all a node's NICs together; likewise
  struct Correction {
    TransferPoint point;
    double factor = 1.0;  // timed seconds over those of the links above
    bool operator==(const Correction&) const = default;
  };
  std::vector<Correction> corrections;  // ascending by ranks, ranks_a_node, part_bytes
  bool operator==(const TransferRate&) const = default;
};

struct Machine {
  std::string name;  // for messages: its file
  GemmFlops gemm_flops;
  double vector_flops = 0.0;    // FLOP/s of everything else
  double dram_bandwidth = 0.0;  // bytes/s, reads and writes together
  double launch_seconds = 0.0;  // before a kernel's first result
  int64_t memory_bytes = 0;     // of a device
  int64_t devices = 1;          // of a node; a rank each
  Link link;                    // from a device to the others of its node
  int64_t nics = 0;             // of a node, shared by its ranks; 0: there is one node only
  Link nic;                     // of one NIC
  // Of what was measured.
  std::vector<OpRate> op_rates;
  std::vector<TransferRate> transfer_rates;
  double step_seconds = 0.0;  // of the host's work in a step, before its first program and between
  double skew_seconds = 0.0;  // standard deviation of a rank's step
  bool operator==(const Machine&) const = default;
};

// Factors of a machine's rates.
struct WhatIf {
  double flops = 1.0;  // products and everything else
  double dram = 1.0;   // bandwidth
  double link = 1.0;   // bandwidth inside and between nodes; latencies stay
  bool operator==(const WhatIf&) const = default;
};
Machine scaled(Machine machine, const WhatIf& factors);

// What was measured of it, or nullptr.
const OpRate* find_op_rate(const Machine& machine, Op op, DType dtype);
const TransferRate* find_transfer_rate(const Machine& machine, Op op, Algorithm algorithm,
                                       Transport transport);

// FLOP/s of products of `dtype`. InputError where the machine's description has none.
double gemm_flops(const Machine& machine, DType dtype);

// How ranks lie on nodes: they fill them in order.
struct Topology {
  int64_t ranks = 1, ranks_a_node = 1, nodes = 1;
};
// InputError where `ranks` do not fill whole nodes, or nodes have no network between them.
Topology topology_of(const Machine& machine, int64_t ranks);

}  // namespace memwall
