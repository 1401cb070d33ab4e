#include "runtime/cli/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <tuple>

#include "runtime/cli/number_search.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/settings_space.h"

namespace memwall {
namespace {

constexpr int64_t kMostLayers = 2048;  // as configurations allow

bool needs_less(const Candidate& a, const Candidate& b) {
  return std::tuple(a.planned_bytes, a.change.count()) <
         std::tuple(b.planned_bytes, b.change.count());
}

void keep_smaller(std::optional<Candidate>& kept, const Candidate& candidate) {
  if (!kept || needs_less(candidate, *kept)) kept = candidate;
}

auto rank_of(const Candidate& c) {
  return std::tuple(cost_flops(c), c.micro_steps, c.change.count(), c.planned_bytes, c.change.sets);
}

bool preferred(const Candidate& a, const Candidate& b) {
  return std::tuple(a.change.changes_results, rank_of(a)) <
         std::tuple(b.change.changes_results, rank_of(b));
}

bool nearer(const Candidate& a, const Candidate& b) {
  return std::tuple(a.change.changes_results, a.change.count(), rank_of(a)) <
         std::tuple(b.change.changes_results, b.change.count(), rank_of(b));
}

// --- one number: layers, or the micro-batch where the global batch follows it

SearchResult largest_number(const NumberSearch& request) {
  NumberSearchResult found = find_largest(request);
  SearchResult out;
  if (found.largest) out.fitting.push_back(*found.largest);
  (out.fitting.empty() ? out.smallest : out.next) = found.next;
  return out;
}

// A number of layers is another model, a micro-batch whose global batch follows another batch.
std::function<Candidate(int64_t)> compile_with(const SearchBase& base, const std::string& field,
                                               int64_t now, Setting setting) {
  return [&base, field, now, setting](int64_t value) {
    Change change;
    if (value != now) change = {{fmt::format("{}={}", field, value)}, setting, true};
    return compile_candidate(base, change);
  };
}

SearchResult deepest(const SearchBase& base, int64_t budget_bytes) {
  const config::Config whole = config_of(base, {});
  if (whole.model().has_init_from()) {
    throw InputError("a model in a folder has the layers it has", "model.init_from",
                     "--vary micro_batch or settings, or take model.init_from out");
  }
  NumberSearch request;
  request.compile = compile_with(base, "model.num_layers", whole.model().num_layers(), kLayers);
  // Each layer adds to what is live at every moment.
  request.least_bytes = [](const Candidate& c) { return c.lower_bound; };
  request.most = kMostLayers;
  request.budget_bytes = budget_bytes;
  return largest_number(request);
}

SearchResult largest_free_micro_batch(const SearchBase& base, const config::Config& whole,
                                      int64_t budget_bytes) {
  NumberSearch request;
  request.compile =
      compile_with(base, "data.micro_batch_size", whole.data().micro_batch_size(), kMicroBatch);
  // Each sequence adds to what is live at every moment, but for the chunks of the head, whose rows
  // divide the batch: 160 for 5 sequences of 128 tokens, 256 for 4.
  request.least_bytes = [](const Candidate& c) { return c.lower_bound - c.workspace; };
  const GptSpec spec = gpt_spec(whole);
  // So that no count of FLOPs overflows; the size of a configuration's numbers is limited too.
  request.most = std::clamp((int64_t{1} << 60) / std::max(Gpt2(spec).flops(spec.time), int64_t{1}),
                            int64_t{1}, (int64_t{1} << 31) / base.ranks);
  request.budget_bytes = budget_bytes;
  return largest_number(request);
}

SearchResult largest_micro_batch(const SearchBase& base, int64_t budget_bytes) {
  const config::Config whole = config_of(base, {});
  if (!load_config(base.config.path, base.config.overrides).config.data().has_global_batch_size()) {
    return largest_free_micro_batch(base, whole, budget_bytes);
  }
  SearchResult out;
  for (const Change& change : micro_batches_of(base)) {
    const Candidate candidate = compile_candidate(base, change);
    if (candidate.planned_bytes <= budget_bytes) {
      out.fitting.push_back(candidate);
      return out;
    }
    keep_smaller(out.next, candidate);
  }
  std::swap(out.next, out.smallest);
  return out;
}

// --- settings

// Combinations of all settings but the micro-batch.
std::vector<Change> combinations(const SettingsSpace& space) {
  std::vector<Change> out;
  for (const Change& precision : space.precisions) {
    for (const Change& policy : space.policies) {
      for (const Change& stage : space.stages) {
        out.push_back(joined(joined(stage, policy), precision));
      }
    }
  }
  return out;
}

SearchResult cheapest_settings(const SearchBase& base, int64_t budget_bytes) {
  const SettingsSpace space = settings_space(base);
  std::vector<Candidate> fitting, others;
  // Of one combination the largest micro-batch is the cheapest: fewer micro-steps gather less.
  for (const Change& combination : combinations(space)) {
    for (const Change& micro_batch : space.micro_batches) {
      const Candidate candidate = compile_candidate(base, joined(combination, micro_batch));
      const bool fits = candidate.planned_bytes <= budget_bytes;
      (fits ? fitting : others).push_back(candidate);
      if (fits) break;
    }
  }
  SearchResult out;
  if (fitting.empty()) {
    for (const Candidate& candidate : others) keep_smaller(out.smallest, candidate);
    return out;
  }
  std::sort(fitting.begin(), fitting.end(), preferred);
  for (const Candidate& candidate : others) {
    if (preferred(candidate, fitting[0])) keep_smaller(out.next, candidate);
  }
  for (const Candidate& candidate : fitting) {
    const bool smaller = std::all_of(
        out.fitting.begin(), out.fitting.end(),
        [&](const Candidate& other) { return candidate.planned_bytes < other.planned_bytes; });
    if (smaller) out.fitting.push_back(candidate);
  }
  return out;
}

// --- the nearest settings

class NearestSettings {
 public:
  NearestSettings(const SearchBase& base, int64_t budget_bytes)
      : base_(base), budget_bytes_(budget_bytes), space_(settings_space(base)) {}

  SearchResult run(size_t count) {
    SearchResult out;
    for (int level = 0; level <= 4 && out.fitting.size() + 1 < count; ++level) {
      for (const Change& combination : combinations(space_)) look_at(combination, level);
      out.fitting = chosen(count);
    }
    if (out.fitting.empty()) out.smallest = smallest_;
    return out;
  }

 private:
  // Candidates of the combination that change exactly `level` settings.
  void look_at(const Change& combination, int level) {
    for (const Change& micro_batch : space_.micro_batches) {
      const Change change = joined(combination, micro_batch);
      if (change.count() != level) continue;
      // Not compiled where its slots alone are too large to fit, and to be the smallest.
      const int64_t least = persistent_bytes(base_, change);
      if (least > budget_bytes_ && smallest_ && least >= smallest_->planned_bytes) continue;
      const Candidate candidate = compile_candidate(base_, change);
      keep_smaller(smallest_, candidate);
      if (candidate.planned_bytes > budget_bytes_) continue;
      fitting_.push_back(candidate);
      return;
    }
  }

  // The nearest first; of those that change the results, one at the end, more only for want of
  // others. A candidate that changes all that a nearer one changes must be cheaper than that.
  std::vector<Candidate> chosen(size_t count) {
    std::sort(fitting_.begin(), fitting_.end(), nearer);
    std::vector<Candidate> out, others;
    for (const Candidate& candidate : fitting_) {
      const auto covers = [&](const Candidate& c) {
        return (c.change.settings & ~candidate.change.settings) == 0 &&
               cost_flops(c) <= cost_flops(candidate);
      };
      if (std::any_of(out.begin(), out.end(), covers)) continue;
      if (std::any_of(others.begin(), others.end(), covers)) continue;
      (candidate.change.changes_results ? others : out).push_back(candidate);
    }
    const size_t most = count - (others.empty() ? 0 : 1);
    if (out.size() > most) out.resize(most);
    others.resize(std::min(others.size(), count - out.size()));
    out.insert(out.end(), others.begin(), others.end());
    return out;
  }

  const SearchBase& base_;
  int64_t budget_bytes_;
  SettingsSpace space_;
  std::vector<Candidate> fitting_;
  std::optional<Candidate> smallest_;
};

}  // namespace

double cost_flops(const Candidate& c) {
  return static_cast<double>(c.flops()) + kFlopsPerByte * static_cast<double>(c.wire_bytes());
}

SearchResult search(const SearchBase& base, Vary vary, int64_t budget_bytes) {
  switch (vary) {
    case Vary::kLayers: return deepest(base, budget_bytes);
    case Vary::kMicroBatch: return largest_micro_batch(base, budget_bytes);
    default: return cheapest_settings(base, budget_bytes);
  }
}

SearchResult nearest_settings(const SearchBase& base, int64_t budget_bytes, size_t count) {
  return NearestSettings(base, budget_bytes).run(count);
}

}  // namespace memwall
