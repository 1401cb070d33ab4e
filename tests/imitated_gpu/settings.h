// What the environment says about the imitated GPUs; read once, at the first call.
//
//   MEMWALL_IMITATED_GPUS=1              devices of this process
//   MEMWALL_IMITATED_GPU_FIRST=0        which of the host's the first of them is
//   MEMWALL_IMITATED_GPU_BYTES=8589934592  memory of each
//   MEMWALL_IMITATED_GPU_ARCH=90         compute capability, major * 10 + minor
//   MEMWALL_IMITATED_GPU_ORDER=LATE      LATE, EARLY or RANDOM:<seed>; scheduler.h
//   MEMWALL_IMITATED_GPU_CODE=90         the one capability that kernels have code for; else any
//   MEMWALL_IMITATED_GPU_PROTECT=1       the host cannot touch device memory
//   MEMWALL_IMITATED_GPU_FAULT=<name>:<n>  the n-th call of <name> (1 is the first) fails
//   MEMWALL_IMITATED_GPU_REFUSE=<name>:<n>  that call is refused, and nothing else happens
//   MEMWALL_IMITATED_GPU_HOLD=<name>:<n>  that call never returns
//   MEMWALL_IMITATED_NCCL_START=NEVER    a communicator never gets past its start
//   MEMWALL_IMITATED_NCCL_GRANULARITY=2097152  ncclMemAlloc rounds up to it
//   MEMWALL_IMITATED_NCCL_WINDOWS=1      0: there are none
//   MEMWALL_IMITATED_GEMM_HALVES=1       cuBLASLt proposes another algorithm, with other bits
//   MEMWALL_IMITATED_GEMM_WORKSPACE=<n>  cublasLtMatmulAlgoCheck's bytes beyond the algorithm's
//   MEMWALL_IMITATED_CUDNN_EXTRA_WORKSPACE=0  bytes that plans of cuDNN ask for beyond the usual
//   MEMWALL_IMITATED_GPU_COUNTS=<file>   a line of JSON a process, written at its end
//   MEMWALL_IMITATED_GPU_PATIENCE=120    seconds without progress after which the process aborts
//
// A value that cannot be read ends the process with a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace memwall::imitated {

enum class Order { kLate, kEarly, kRandom };

struct Settings {
  int devices = 1;
  int first = 0;  // device 0's number on the host
  size_t device_bytes = size_t{8} << 30;
  int arch = 90;
  Order order = Order::kLate;
  uint64_t seed = 0;
  int code = 0;  // 0: for any capability
  bool protect = false;
  std::string fault_name;  // empty: no fault
  uint64_t fault_call = 0;
  int64_t cudnn_extra_workspace = 0;
  std::string refused_name;  // empty: none
  uint64_t refused_call = 0;
  std::string held_name;  // empty: none
  uint64_t held_call = 0;
  bool never_starts = false;
  size_t granularity = size_t{2} << 20;
  bool windows = true;
  bool products_in_halves = false;
  uint64_t more_workspace = 0;
  std::string counts_file;  // empty: none
  double patience_seconds = 120.0;
  int rank = 0;  // as the launcher says it, for the counts and for RANDOM's seed
};

// Tests may change it between calls of the API.
Settings& settings();

// One line on stderr, "imitated GPU: ...". For what real CUDA would leave unsaid.
[[gnu::format(printf, 1, 2)]] void complain(const char* format, ...);

}  // namespace memwall::imitated
