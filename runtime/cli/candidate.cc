#include "runtime/cli/candidate.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/base/averaging.h"
#include "runtime/cli/settings.h"
#include "runtime/passes/shard.h"

namespace memwall {
namespace {

std::string field_of(const std::string& set) {
  return set.substr(0, set.find('='));
}

// The base's overrides, less those of fields that `sets` set, then `sets`.
std::vector<std::string> overrides(const SearchBase& base, const std::vector<std::string>& sets) {
  std::vector<std::string> out;
  for (const std::string& given : base.config.overrides) {
    const bool replaced = std::any_of(sets.begin(), sets.end(), [&](const std::string& set) {
      return field_of(set) == field_of(given);
    });
    if (!replaced) out.push_back(given);
  }
  out.insert(out.end(), sets.begin(), sets.end());
  return out;
}

std::string shell_word(const std::string& word) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./=:,+@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

CompileSettings settings_of(const SearchBase& base, const config::Config& config) {
  if (base.hosting) return compile_settings(config, *base.hosting);
  return compile_settings(config, base.ranks);
}

}  // namespace

config::Config config_of(const SearchBase& base, const Change& change) {
  const GivenConfig given = load_config(base.config.path, overrides(base, change.sets));
  validate(given, base.ranks, Purpose::kPlan);
  return effective(given.config, base.ranks);
}

Candidate compile_candidate(const SearchBase& base, const Change& change) {
  const config::Config config = config_of(base, change);
  const Plan plan = compile(Gpt2(gpt_spec(config)), settings_of(base, config));
  Candidate out;
  out.change = change;
  out.planned_bytes = planned_bytes(plan);
  out.lower_bound = out.planned_bytes - plan.arena_bytes + plan.totals.lower_bound;
  out.workspace = plan.totals.maximum[static_cast<size_t>(Category::kWorkspace)];
  out.parameters = plan.parameters;
  out.layers = config.model().num_layers();
  out.zero_stage = config.parallel().zero_stage();
  out.micro_batch = config.data().micro_batch_size();
  out.micro_steps = plan.micro_steps;
  out.policy =
      config::ActivationCheckpointing::Policy_Name(config.activation_checkpointing().policy());
  out.precision = config::Precision::Mode_Name(config.precision().mode());
  out.model_flops = plan.totals.model_flops;
  out.recomputed_flops = plan.totals.recomputed_flops;
  out.tangent_flops = plan.totals.tangent_flops;
  out.all_gather = plan.totals.all_gather;
  out.reduce_scatter = plan.totals.reduce_scatter;
  out.all_reduce = plan.totals.all_reduce;
  return out;
}

int64_t persistent_bytes(const SearchBase& base, const Change& change) {
  const config::Config config = config_of(base, change);
  const Gpt2 model(gpt_spec(config));
  Plan slots;
  const CompileSettings settings = settings_of(base, config);
  slots.units = model.units(base.ranks, averaging_alignment(averaging_block(settings)));
  declare_slots(model, settings, slots);
  return slots.persistent_bytes;
}

std::string command_line(const SearchBase& base, const Change& change, std::string_view budget) {
  std::vector<std::string> sets = change.sets;
  if (!budget.empty()) sets.push_back(fmt::format("memory.budget={}", budget));
  std::string out = base.ranks > 1 ? fmt::format("mpirun -np {} ", base.ranks) : "";
  out += shell_word(base.config.program) + " train " + shell_word(base.config.path);
  for (const std::string& set : overrides(base, sets)) out += " --set " + shell_word(set);
  return out;
}

}  // namespace memwall
