// Settings that fit a memory budget, found by compiling plans: `memwall fit`, and what a refusal
// over budget proposes.
//
// Everything here is the first candidate that fits in an order that does not depend on the budget.
// So a smaller budget never plans a larger peak: were the choice for the smaller one larger, it
// would fit the larger one too, and be preferred there as well.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/cli/candidate.h"

namespace memwall {

enum class Vary : uint8_t {
  kSettings,    // ZeRO stage, checkpointing policy, micro-batch, precision: the cheapest
  kLayers,      // model.num_layers: the deepest
  kMicroBatch,  // data.micro_batch_size: the largest. A global batch that the configuration gives
                // is kept, and micro-steps follow; one that it does not give follows the
                // micro-batch
};

// The cost of a step in FLOPs: model and recomputed ones, and kFlopsPerByte for each byte sent.
double cost_flops(const Candidate& candidate);

// What sending a byte costs beside a FLOP. It orders candidates and nothing else, and stands in the
// middle of a wide range: a processor core and shared memory make about 15 (150 GFLOP/s, 10 GB/s),
// the same core and a gigabit link 1,500, an accelerator and its network 10,000 and more.
constexpr double kFlopsPerByte = 1000.0;

struct SearchResult {
  std::vector<Candidate> fitting;  // best first, each further one planning fewer bytes than those
                                   // before; empty: nothing fits
  std::optional<Candidate> next;   // what is preferred to the best, does not fit, and needs least
  std::optional<Candidate> smallest;  // where nothing fits: the one that needs least
};

// Candidates in order of preference:
// - layers, micro-batch: the larger first;
// - settings: those that leave the results of training as they are before the others (precision);
//   then the cheaper by cost_flops; then fewer micro-steps; then fewer changes; then fewer bytes.
// InputError where the base is no valid configuration.
SearchResult search(const SearchBase& base, Vary vary, int64_t budget_bytes);

// At most `count` settings that fit, those with the fewest changes first, then as in `search`: what
// changes the results comes last, one such at most where there are enough others. What changes all
// that a nearer one changes is left out unless it is cheaper. Looks at more changes only while it
// has found fewer than `count` - 1.
SearchResult nearest_settings(const SearchBase& base, int64_t budget_bytes, size_t count);

}  // namespace memwall
