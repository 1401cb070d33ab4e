// The settings that a search may change, and in which ways.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/cli/candidate.h"

namespace memwall {

// One setting's values: the base's own, which changes nothing, is among them.
using Choices = std::vector<Change>;

struct SettingsSpace {
  Choices stages;         // 0 to 3; on one rank the base's
  Choices policies;       // NONE, the SELECTIVE preset, BLOCK, and the base's
  Choices precisions;     // FP32, FP16, and the base's; another one changes the results
  Choices micro_batches;  // that divide a rank's share of the global batch, the largest first
};

// InputError where the base is no valid configuration.
SettingsSpace settings_space(const SearchBase& base);

// The micro-batches above, for a search over them alone: `data.global_batch_size` stays.
Choices micro_batches_of(const SearchBase& base);

// Both together.
Change joined(const Change& a, const Change& b);

}  // namespace memwall
