// What the program asked of the imitated libraries: evidence that is independent of the program's
// own count. MEMWALL_IMITATED_GPU_COUNTS=<file> appends it, at the end of the process, as one line:
//   {"rank": 0, "calls": {"cudaMalloc": 2, ...}, "kernels": {"scale(float*, int)": 7, ...},
//    "bytes": {"ncclAllGather": 4096, ...}, "captured": {...}, "replayed": {...}}
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace memwall::imitated {

struct Counts {
  std::map<std::string, uint64_t> calls;    // by function of the API
  std::map<std::string, uint64_t> kernels;  // launches, by the kernel's name
  // By NCCL call, count * element size as handed to it: the contribution of one rank to an
  // all-gather, the result of one rank of a reduce-scatter, the whole buffer of the others. By copy
  // ("cudaMemcpyHostToDevice", ...), the bytes copied. By "cudaMalloc" and "cudaMallocHost", the
  // bytes taken, whether given back or not.
  std::map<std::string, uint64_t> bytes;
  // Of kernels, products and NCCL calls: those among `calls` that were captured, and those that
  // launches of graphs made. The bytes of captured calls count with the launches.
  std::map<std::string, uint64_t> captured, replayed;
};

Counts counts();
void reset_counts();

// For the library itself, under its lock.
// Counts a call; true where MEMWALL_IMITATED_GPU_FAULT says that this one fails.
bool count_call(const char* name);
void count_kernel(const std::string& name);
void count_bytes(const std::string& name, uint64_t bytes);
void count_capture(const std::string& name);
void count_replay(const std::string& name, uint64_t bytes);

}  // namespace memwall::imitated
