// Which tokens make which training or validation sample: pure functions of global indices, so that
// every rank count sees the same global batches and a resumed run needs no sampler state.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/data/token_source.h"

namespace memwall {

enum class Sampling : uint8_t {
  kShuffled,      // a permutation per epoch of the windows [wT, wT + T]; each once an epoch
  kRandomOffset,  // an offset uniform over [0, size - T - 1], as nanoGPT's get_batch
  kSequential,    // sample g is tokens [gT, gT + T], positions modulo the size of the part
};

// A bijection of [0, size), another one for every (seed, epoch): a Feistel network over the next
// power of four, walked until it lands inside (Black and Rogaway 2002, "Ciphers with arbitrary
// finite domains", method 3).
class Permutation {
 public:
  Permutation(int64_t size, uint64_t seed, int64_t epoch);
  int64_t operator()(int64_t index) const;

 private:
  uint64_t encrypt(uint64_t value) const;

  uint64_t size_ = 1, key_ = 0;
  int half_bits_ = 1;
};

// T tokens and their T successors: targets[i] follows tokens[i].
class Sampler {
 public:
  // `training` holds at least seq_length + 1 tokens.
  Sampler(TokenRange training, Sampling sampling, int64_t seq_length, uint64_t seed);

  int64_t windows() const { return windows_; }  // floor((size - 1) / T): an epoch of kShuffled
  // Position of the first token of global sample `sample`, from 0 on.
  int64_t offset(int64_t sample) const;
  void fill(int64_t sample, std::span<int32_t> tokens, std::span<int32_t> targets) const;

 private:
  TokenRange training_;
  Sampling sampling_;
  int64_t seq_length_, windows_;
  uint64_t seed_;
};

// How a step's samples are spread: micro-step by micro-step, in it rank by rank, in it row by row.
struct BatchLayout {
  int64_t ranks = 1;
  int64_t micro_batch = 1;   // rows a rank and micro-step
  int64_t global_batch = 1;  // rows a step; a multiple of ranks * micro_batch

  int64_t micro_steps() const { return global_batch / (ranks * micro_batch); }
  // Steps and micro-steps from 0 on.
  int64_t sample(int64_t step, int64_t micro_step, int64_t rank, int64_t row) const {
    return step * global_batch + (micro_step * ranks + rank) * micro_batch + row;
  }
};

// One rank's share of a micro-step: tokens and targets (micro_batch, T), samples (micro_batch).
void fill_micro_batch(const Sampler& sampler, const BatchLayout& layout, int64_t step,
                      int64_t micro_step, int64_t rank, std::span<int32_t> tokens,
                      std::span<int32_t> targets, std::span<int64_t> samples);

// Validation: windows w = tokens [wT, wT + T], w in [0, floor((size - 1) / T)). All ranks evaluate
// the same number of rounds; row b of rank r in round i is window (i * ranks + r) * micro_batch +
// b, and where there is none, window 0 with weight 0.
class ValidationWindows {
 public:
  // `validation` holds at least seq_length + 1 tokens.
  ValidationWindows(TokenRange validation, int64_t seq_length, int64_t ranks, int64_t micro_batch);

  int64_t windows() const { return windows_; }
  int64_t tokens() const { return windows_ * seq_length_; }  // predicted ones
  int64_t rounds() const;
  int64_t window(int64_t round, int64_t rank, int64_t row) const;  // -1: padding
  // tokens and targets (micro_batch, T), weights (micro_batch) of 1 or 0.
  void fill(int64_t round, int64_t rank, std::span<int32_t> tokens, std::span<int32_t> targets,
            std::span<double> weights) const;

 private:
  TokenRange validation_;
  int64_t seq_length_, ranks_, micro_batch_, windows_;
};

}  // namespace memwall
