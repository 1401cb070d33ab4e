// Runs on the weights and batches of golden files (tests/golden/make_*_golden.py).
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/hugging_face.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {

inline std::vector<double> read_all(const WeightSource& source, const std::string& name) {
  std::vector<double> out(static_cast<size_t>(source.shape(name).elements()));
  source.read(name, 0, std::span<double>(out));
  return out;
}

inline GptSpec golden_spec(const Gpt2Config& config, DType dtype, int64_t batch, int64_t time) {
  GptSpec spec;
  spec.layers = config.num_layers;
  spec.hidden = config.hidden_size;
  spec.heads = config.num_heads;
  spec.context = config.context_length;
  spec.vocabulary = config.vocab_size;
  spec.layer_norm_epsilon = config.layer_norm_epsilon;
  spec.batch = batch;
  spec.time = time;
  spec.dtype = dtype;
  return spec;
}

// One rank's parameters become those of `weights`.
inline void load(TinyRun& run, const WeightSource& weights) {
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor p = run.executor().slot(SlotKind::kParameter, static_cast<int64_t>(u));
    for (const Segment& s : run.plan().units[u].segments) {
      const std::vector<double> values = read_all(weights, s.name);
      for (int64_t i = 0; i < s.count; ++i) {
        set_element(p, s.offset + i, values[static_cast<size_t>(i)]);
      }
    }
  }
}

// Step `step` of the tensors "tokens" and "targets" (steps, batch, time).
inline void feed(TinyRun& run, const SafetensorsFile& golden, int64_t step) {
  const int64_t count = run.spec().batch * run.spec().time;
  for (const auto& [name, kind] :
       {std::pair{"tokens", SlotKind::kTokens}, std::pair{"targets", SlotKind::kTargets}}) {
    const std::vector<double> all = read_all(golden, name);
    for (int64_t i = 0; i < count; ++i) {
      run.executor().slot(kind).as<int32_t>()[i] =
          static_cast<int32_t>(all[static_cast<size_t>(step * count + i)]);
    }
  }
}

inline double norm_of(const std::vector<double>& values) {
  double sum = 0.0;
  for (double v : values) sum += v * v;
  return std::sqrt(sum);
}

}  // namespace memwall::test
