#include "runtime/cli/settings_space.h"

#include <fmt/format.h>

#include "runtime/cli/settings.h"

namespace memwall {
namespace {

using Policy = config::ActivationCheckpointing;

constexpr const char* kPreset = "attention_and_residual";

// A field that the base gives and that has no effect beside a changed one must be taken out.
void take_out(bool is_given, const char* field, std::vector<std::string>& sets) {
  if (is_given) sets.push_back(std::string(field) + "=");
}

Choices stages(const config::Config& whole, int64_t ranks) {
  const int64_t now = whole.parallel().zero_stage();
  if (ranks == 1) return {Change{}};
  Choices out;
  for (int64_t stage = 0; stage <= 3; ++stage) {
    Change change;
    if (stage != now) change = {{fmt::format("parallel.zero_stage={}", stage)}, kZeroStage, false};
    out.push_back(change);
  }
  return out;
}

Choices policies(const config::Config& given) {
  const Policy& now = given.activation_checkpointing();
  Choices out = {Change{}};
  const bool has_preset = now.policy() == Policy::SELECTIVE && now.preset() == kPreset;
  for (const Policy::Policy policy : {Policy::NONE, Policy::SELECTIVE, Policy::BLOCK}) {
    const bool selective = policy == Policy::SELECTIVE;
    if (policy == now.policy() && (!selective || (has_preset && now.keep_size() == 0))) continue;
    Change change{{}, kPolicy, false};
    if (policy != now.policy()) {
      change.sets.push_back("activation_checkpointing.policy=" + Policy::Policy_Name(policy));
    }
    take_out(now.keep_size() > 0, "activation_checkpointing.keep", change.sets);
    if (selective) {
      if (!has_preset) {
        change.sets.push_back(std::string("activation_checkpointing.preset=") + kPreset);
      }
    } else {
      take_out(now.has_preset(), "activation_checkpointing.preset", change.sets);
    }
    out.push_back(change);
  }
  return out;
}

Choices precisions(const config::Config& given) {
  using config::Precision;
  const Precision& now = given.precision();
  const Precision::Mode mode = now.has_mode() ? now.mode() : Precision::FP32;
  Choices out = {Change{}};
  for (const Precision::Mode other : {Precision::FP32, Precision::FP16}) {
    if (other == mode) continue;
    Change change{{"precision.mode=" + Precision::Mode_Name(other)}, kPrecision, true};
    if (other != Precision::FP16) {
      take_out(now.has_initial_loss_scale(), "precision.initial_loss_scale", change.sets);
      take_out(now.has_growth_interval(), "precision.growth_interval", change.sets);
      take_out(now.has_backoff(), "precision.backoff", change.sets);
      take_out(now.has_hysteresis(), "precision.hysteresis", change.sets);
      take_out(now.has_min_loss_scale(), "precision.min_loss_scale", change.sets);
    }
    out.push_back(change);
  }
  return out;
}

Choices micro_batches(const config::Config& given, const config::Config& whole, int64_t ranks) {
  const int64_t now = whole.data().micro_batch_size(), global = whole.data().global_batch_size();
  const int64_t share = global / ranks;
  Choices small, large;  // divisors come in pairs
  const auto add = [&](Choices& out, int64_t batch) {
    Change change;
    if (batch != now) {
      change = {{fmt::format("data.micro_batch_size={}", batch)}, kMicroBatch, false};
      if (!given.data().has_global_batch_size()) {
        change.sets.push_back(fmt::format("data.global_batch_size={}", global));
      }
    }
    out.push_back(change);
  };
  for (int64_t d = 1; d * d <= share; ++d) {
    if (share % d != 0) continue;
    add(large, share / d);
    if (d != share / d) add(small, d);
  }
  large.insert(large.end(), small.rbegin(), small.rend());
  return large;
}

}  // namespace

SettingsSpace settings_space(const SearchBase& base) {
  const config::Config whole = config_of(base, {});
  const config::Config given = load_config(base.config.path, base.config.overrides).config;
  return {stages(whole, base.ranks), policies(given), precisions(given),
          micro_batches(given, whole, base.ranks)};
}

Choices micro_batches_of(const SearchBase& base) {
  const config::Config given = load_config(base.config.path, base.config.overrides).config;
  return micro_batches(given, config_of(base, {}), base.ranks);
}

Change joined(const Change& a, const Change& b) {
  Change out = a;
  out.sets.insert(out.sets.end(), b.sets.begin(), b.sets.end());
  out.settings |= b.settings;
  out.changes_results = a.changes_results || b.changes_results;
  return out;
}

}  // namespace memwall
