#include "runtime/cli/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/rng.h"

namespace memwall {
namespace {

constexpr uint32_t kStream = 0xffffffffu;  // beside those of parameters and dropout sites

// How many of `weights`, descending, reach the share `p` of their sum. At least one.
size_t nucleus(std::span<const double> weights, double p) {
  const double wanted = p * std::accumulate(weights.begin(), weights.end(), 0.0);
  double reached = 0.0;
  for (size_t i = 0; i < weights.size(); ++i) {
    reached += weights[i];
    if (reached >= wanted) return i + 1;
  }
  return weights.size();
}

}  // namespace

void check_sampling(const SamplingSettings& settings) {
  if (!(settings.temperature >= 0.0) || !std::isfinite(settings.temperature)) {
    throw InputError("must not be negative", "--temperature", "allowed: 0 or more");
  }
  if (settings.top_k < 0) throw InputError("must not be negative", "--top-k", "0: all tokens");
  if (!(settings.top_p > 0.0 && settings.top_p <= 1.0)) {
    throw InputError("out of range", "--top-p", "allowed: more than 0, at most 1");
  }
}

int32_t sample_token(std::span<const double> logits, const SamplingSettings& settings,
                     int64_t draw) {
  for (size_t token = 0; token < logits.size(); ++token) {
    if (std::isfinite(logits[token])) continue;
    throw Error("the model's logit of token " + std::to_string(token) + " is not finite", "",
                "the weights are damaged, or training has diverged");
  }
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](int32_t token) { return logits[static_cast<size_t>(token)]; };
  const auto likelier = [&](int32_t a, int32_t b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  };
  if (settings.temperature == 0.0) return *std::min_element(order.begin(), order.end(), likelier);

  std::sort(order.begin(), order.end(), likelier);
  if (settings.top_k > 0) {
    order.resize(std::min(order.size(), static_cast<size_t>(settings.top_k)));
  }
  std::vector<double> weights;
  for (const int32_t token : order) {
    weights.push_back(std::exp((logit(token) - logit(order[0])) / settings.temperature));
  }
  weights.resize(nucleus(weights, settings.top_p));

  const double u =
      to_unit_interval(random_bits(settings.seed, kStream, static_cast<uint64_t>(draw)));
  const double wanted = u * std::accumulate(weights.begin(), weights.end(), 0.0);
  double reached = 0.0;
  for (size_t i = 0; i < weights.size(); ++i) {
    reached += weights[i];
    if (reached > wanted) return order[i];
  }
  return order[weights.size() - 1];
}

}  // namespace memwall
