// Causal attention by cuDNN's C++ front end, as a shared library with the imitated GPUs: the way
// the CUDA module uses it. Tensors are {batch, heads, time, size} of rows (batch * time, heads *
// size).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

#include "tests/imitated_gpu/settings.h"

#define TRIAL_EXPORT [[gnu::visibility("default")]]

namespace memwall::imitated::test {

enum class TrialType { kHalf, kBFloat16, kFloat };

struct TrialProblem {
  int64_t batch = 1, heads = 1, time = 1, size = 8;
  TrialType type = TrialType::kHalf;
  float scale = 1.0f;
  bool is_causal = true;
  bool is_deterministic = true;
};

struct TrialPointers {
  void *q, *k, *v, *o, *stats, *d_o, *d_q, *d_k, *d_v;
};

class TRIAL_EXPORT TrialAttention {
 public:
  explicit TrialAttention(const TrialProblem& problem);
  ~TrialAttention();

  // Each returns what the front end says is wrong; empty: nothing.
  std::string build();
  std::string forward(cudaStream_t stream, const TrialPointers& pointers, void* workspace);
  std::string backward(cudaStream_t stream, const TrialPointers& pointers, void* workspace);

  int64_t forward_workspace() const;
  int64_t backward_workspace() const;

 private:
  struct Graphs;
  std::unique_ptr<Graphs> graphs_;
};

// Those of the library.
TRIAL_EXPORT Settings& trial_settings();

}  // namespace memwall::imitated::test
