// A machine as the cost model sees it: what its devices and links reach, not what their data sheets
// promise. Rates are per second; a link's bandwidth is that of one direction, both at once.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/dtype.h"

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

// FLOP/s of products of `dtype`. InputError where the machine's description has none.
double gemm_flops(const Machine& machine, DType dtype);

// How ranks lie on nodes: they fill them in order.
struct Topology {
  int64_t ranks = 1, ranks_a_node = 1, nodes = 1;
};
// InputError where `ranks` do not fill whole nodes, or nodes have no network between them.
Topology topology_of(const Machine& machine, int64_t ranks);

}  // namespace memwall
