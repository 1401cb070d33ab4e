// Choosing the next token of a text from a model's logits.
#pragma once

#include <cstdint>
#include <span>

namespace memwall {

struct SamplingSettings {
  double temperature = 0.8;  // 0: always the likeliest token
  int64_t top_k = 0;         // only the k likeliest; 0: all
  double top_p = 1.0;        // only the fewest whose probability reaches p ("nucleus", Holtzman et
                             // al. 2020), of what top_k leaves
  uint64_t seed = 1;
};

// InputError naming the option where a setting is out of range.
void check_sampling(const SamplingSettings& settings);

// A pure function: `draw` numbers the tokens of one text. Of equal logits the lower token is the
// likelier. Throws Error where a logit is not finite.
int32_t sample_token(std::span<const double> logits, const SamplingSettings& settings,
                     int64_t draw);

}  // namespace memwall
