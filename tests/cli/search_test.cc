// The search for settings that fit, against trying everything by hand.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "runtime/cli/budget.h"
#include "runtime/cli/search.h"
#include "runtime/cli/settings.h"

namespace memwall::test {
namespace {

constexpr int64_t kRanks = 2;

class Search : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(file_) << R"(model { num_layers: 2 hidden_size: 32 num_heads: 2
        context_length: 64 vocab_size: 320 }
data { seq_length: 64 micro_batch_size: 2 }
communication { transport: MPI }
run { steps: 10 })";
  }
  void TearDown() override { std::filesystem::remove(file_); }

  SearchBase base(std::vector<std::string> overrides = {}) const {
    return {{file_, std::move(overrides)}, kRanks, {}};
  }
  config::Config config(const std::vector<std::string>& overrides = {}) const {
    return effective(load_config(file_, overrides).config, kRanks);
  }
  static Plan compiled(const config::Config& c) {
    return compile(Gpt2(gpt_spec(c)), compile_settings(c, kRanks));
  }
  static int64_t bytes(const config::Config& c) { return planned_bytes(compiled(c)); }

  // Planned bytes by the value of one field, by trying.
  template <class Set>
  std::map<int64_t, int64_t> tried(int64_t most, Set set) const {
    std::map<int64_t, int64_t> out;
    for (int64_t value = 1; value <= most; ++value) {
      config::Config c = config();
      set(c, value);
      out[value] = bytes(c);
    }
    return out;
  }

  // The search's answer is the largest value whose plan fits, for every budget that could tell two
  // values apart.
  void expect_largest(Vary vary, const std::map<int64_t, int64_t>& by_value,
                      int64_t Candidate::*field) const {
    for (const auto& [unused, need] : by_value) {
      for (const int64_t budget : {need - 1, need}) {
        int64_t largest = 0;
        for (const auto& [value, other] : by_value) {
          if (other <= budget) largest = std::max(largest, value);
        }
        if (largest == by_value.rbegin()->first) continue;  // there may be larger ones
        const SearchResult found = search(base(), vary, budget);
        if (largest == 0) {
          EXPECT_TRUE(found.fitting.empty());
          ASSERT_TRUE(found.smallest.has_value());
          EXPECT_EQ(found.smallest->planned_bytes, by_value.at(1));
          continue;
        }
        ASSERT_FALSE(found.fitting.empty()) << budget;
        EXPECT_EQ(found.fitting[0].*field, largest) << budget;
        EXPECT_EQ(found.fitting[0].planned_bytes, by_value.at(largest));
        ASSERT_TRUE(found.next.has_value());
        EXPECT_EQ((*found.next).*field, largest + 1);
        EXPECT_GT(found.next->planned_bytes, budget);
      }
    }
  }

  const std::string file_ = (std::filesystem::temp_directory_path() /
                             fmt::format("memwall-search-{}.textproto", getpid()))
                                .string();
};

TEST_F(Search, TheDeepestModelIsTheDeepestOfAllThatFit) {
  expect_largest(Vary::kLayers,
                 tried(12, [](auto& c, int64_t n) { c.mutable_model()->set_num_layers(n); }),
                 &Candidate::layers);
}

TEST_F(Search, TheLargestMicroBatchIsTheLargestOfAllThatFit) {
  const std::map<int64_t, int64_t> by_batch = tried(24, [](auto& c, int64_t n) {
    c.mutable_data()->set_micro_batch_size(n);
    c.mutable_data()->set_global_batch_size(n * kRanks);
  });
  expect_largest(Vary::kMicroBatch, by_batch, &Candidate::micro_batch);
}

// 8 sequences of 64 rows go through the head in chunks of 256 rows, 9 in chunks of 192, 11 in
// chunks of 176: with a large vocabulary a larger batch may need less.
TEST_F(Search, TheLargestMicroBatchIsExactWhereBytesFallAsItGrows) {
  std::ofstream(file_) << R"(model { num_layers: 1 hidden_size: 32 num_heads: 1
      context_length: 64 vocab_size: 2048 }
data { seq_length: 64 micro_batch_size: 2 }
communication { transport: MPI }
run { steps: 10 })";
  const std::map<int64_t, int64_t> by_batch = tried(64, [](auto& c, int64_t n) {
    c.mutable_data()->set_micro_batch_size(n);
    c.mutable_data()->set_global_batch_size(n * kRanks);
  });
  EXPECT_LT(by_batch.at(9), by_batch.at(8));
  for (const int64_t budget : {by_batch.at(4), by_batch.at(5), by_batch.at(9), by_batch.at(10)}) {
    int64_t largest = 0;
    for (const auto& [value, need] : by_batch) {
      if (need <= budget) largest = value;
    }
    ASSERT_LT(largest, 48) << "try more of them";
    const SearchResult found = search(base(), Vary::kMicroBatch, budget);
    ASSERT_FALSE(found.fitting.empty());
    EXPECT_EQ(found.fitting[0].micro_batch, largest) << budget;
  }
}

TEST_F(Search, AGivenGlobalBatchIsKept) {
  const auto with_12 = base({"data.global_batch_size=12"});
  for (const int64_t batch : {1, 2, 3, 6}) {
    config::Config c = config({"data.global_batch_size=12"});
    c.mutable_data()->set_micro_batch_size(batch);
    const SearchResult found = search(with_12, Vary::kMicroBatch, bytes(c));
    ASSERT_FALSE(found.fitting.empty());
    const Candidate& best = found.fitting[0];
    EXPECT_GE(best.micro_batch, batch);
    EXPECT_EQ(best.micro_batch * best.micro_steps * kRanks, 12);
    EXPECT_FALSE(best.change.changes_results);
    EXPECT_EQ(found.next.has_value(), best.micro_batch < 6);
  }
}

// Every combination, and the cost as the header states it.
TEST_F(Search, TheCheapestSettingsAreTheCheapestOfAllThatFit) {
  struct Tried {
    int64_t bytes;
    double cost;
    bool same_results;
  };
  std::vector<Tried> all;
  const std::vector<std::string> given = {"data.global_batch_size=16"};
  for (int64_t stage = 0; stage <= 3; ++stage) {
    for (const std::string policy : {"NONE", "BLOCK", "SELECTIVE"}) {
      for (const int64_t batch : {1, 2, 4, 8}) {
        for (const std::string mode : {"FP32", "FP16"}) {
          std::vector<std::string> sets = given;
          sets.push_back(fmt::format("parallel.zero_stage={}", stage));
          sets.push_back("activation_checkpointing.policy=" + policy);
          if (policy == "SELECTIVE") {
            sets.push_back("activation_checkpointing.preset=attention_and_residual");
          }
          sets.push_back(fmt::format("data.micro_batch_size={}", batch));
          sets.push_back("precision.mode=" + mode);
          const Plan plan = compiled(config(sets));
          const Totals& t = plan.totals;
          const int64_t sent =
              t.all_gather.wire_bytes + t.reduce_scatter.wire_bytes + t.all_reduce.wire_bytes;
          all.push_back({planned_bytes(plan),
                         static_cast<double>(t.model_flops + t.recomputed_flops) +
                             1000.0 * static_cast<double>(sent),
                         mode == "FP32"});
        }
      }
    }
  }
  std::sort(all.begin(), all.end(),
            [](const Tried& a, const Tried& b) { return a.bytes < b.bytes; });
  for (size_t i = 0; i < all.size(); i += 9) {
    const Tried& limit = all[i];
    const Tried* best = nullptr;
    for (const Tried& one : all) {
      if (one.bytes > limit.bytes) continue;
      const bool better = best == nullptr || one.same_results > best->same_results ||
                          (one.same_results == best->same_results && one.cost < best->cost);
      if (better) best = &one;
    }
    const SearchResult found = search(base(given), Vary::kSettings, limit.bytes);
    ASSERT_FALSE(found.fitting.empty());
    EXPECT_LE(found.fitting[0].planned_bytes, limit.bytes);
    EXPECT_EQ(found.fitting[0].change.changes_results, !best->same_results);
    EXPECT_DOUBLE_EQ(cost_flops(found.fitting[0]), best->cost);
  }
}

TEST_F(Search, ASmallerBudgetNeverPlansALargerPeak) {
  const std::vector<std::string> given = {"data.global_batch_size=16"};
  for (const auto& [vary, start] :
       {std::pair{Vary::kSettings, base(given)}, std::pair{Vary::kLayers, base(given)},
        std::pair{Vary::kMicroBatch, base(given)}, std::pair{Vary::kMicroBatch, base()}}) {
    int64_t peak = 0, fits = 0, different = 0;
    const auto now = static_cast<double>(bytes(config(start.config.overrides)));
    for (double part = 0.3; part < 4.0; part *= 1.15) {
      const auto limit = static_cast<int64_t>(part * now);
      const SearchResult found = search(start, vary, limit);
      EXPECT_EQ(found.fitting.empty(), found.smallest.has_value());
      if (found.fitting.empty()) {
        EXPECT_EQ(fits, 0) << "a larger budget fits nothing";
        EXPECT_GT(found.smallest->planned_bytes, limit);
        continue;
      }
      ++fits;
      const int64_t planned = found.fitting[0].planned_bytes;
      EXPECT_LE(planned, limit);
      EXPECT_GE(planned, peak) << limit;
      EXPECT_TRUE(!found.next || found.next->planned_bytes > limit);
      different += planned != peak;
      peak = planned;
    }
    EXPECT_GT(fits, 5);
    EXPECT_GT(different, 2) << static_cast<int>(vary);
  }
}

// The sets of every candidate, read back on top of the base's, are a configuration of those bytes,
// also where they must take fields out that would have no effect.
TEST_F(Search, SetsReadBackToThePlanTheyStandFor) {
  const SearchBase start =
      base({"precision.mode=FP16", "precision.initial_loss_scale=1024",
            "activation_checkpointing.policy=SELECTIVE",
            "activation_checkpointing.keep=*/attn/residual", "data.micro_batch_size=4"});
  const int64_t now = bytes(config(start.config.overrides));
  std::vector<Candidate> all;
  for (const int64_t budget : {now * 4, now * 4 / 5, now * 3 / 5}) {
    for (const Candidate& c : search(start, Vary::kSettings, budget).fitting) all.push_back(c);
    for (const Candidate& c : nearest_settings(start, budget, 4).fitting) all.push_back(c);
  }
  EXPECT_GT(all.size(), 6U);
  bool takes_out = false;
  for (const Candidate& c : all) {
    std::vector<std::string> overrides = start.config.overrides;
    overrides.insert(overrides.end(), c.change.sets.begin(), c.change.sets.end());
    for (const std::string& set : c.change.sets) takes_out |= set.ends_with('=');
    const GivenConfig given = load_config(file_, overrides);
    EXPECT_NO_THROW(validate(given, kRanks, Purpose::kPlan));
    EXPECT_EQ(bytes(effective(given.config, kRanks)), c.planned_bytes);
  }
  EXPECT_TRUE(takes_out);
}

TEST_F(Search, TheSlotsAloneAreNeverMoreThanThePlan) {
  for (const char* set :
       {"parallel.zero_stage=0", "parallel.zero_stage=3", "precision.mode=FP16"}) {
    const Change change{{set}, 1, false};
    EXPECT_GT(persistent_bytes(base(), change), 0);
    EXPECT_LT(persistent_bytes(base(), change), compile_candidate(base(), change).planned_bytes);
  }
}

TEST_F(Search, CommandsAreQuotedForAShell) {
  const SearchBase start{
      {"my config", {"run.name=a", "data.text=it's", "parallel.zero_stage=1"}, "bin/memwall"},
      8,
      {}};
  EXPECT_EQ(
      command_line(start, {{"parallel.zero_stage=3"}, kZeroStage, false}, "1 GiB"),
      "mpirun -np 8 bin/memwall train 'my config' --set run.name=a --set 'data.text=it'\\''s' "
      "--set parallel.zero_stage=3 --set 'memory.budget=1 GiB'");
  EXPECT_EQ(command_line({{"c", {}, "memwall"}, 1, {}}, {}, ""), "memwall train c");
}

TEST_F(Search, AModelFromAFolderHasTheLayersItHas) {
  EXPECT_THROW(search(base({"model.init_from=gpt2"}), Vary::kLayers, 1 << 20), InputError);
}

// --- refusals

class Refusal : public Search {
 protected:
  std::string refusal(const std::vector<std::string>& overrides) const {
    const config::Config c = config(overrides);
    const Plan plan = compiled(c);
    try {
      refuse_over_budget(plan, c, what_would_fit(plan, c, base(overrides)));
    } catch (const BudgetError& error) {
      EXPECT_EQ(error.code(), ExitCode::kOverBudget);
      return error.what();
    }
    return "";
  }
  static std::string budget(int64_t bytes) { return fmt::format("memory.budget={}B", bytes); }
};

TEST_F(Refusal, NamesTheNearestSettingsThatFit) {
  const int64_t now = bytes(config()), stage1 = bytes(config({"parallel.zero_stage=1"}));
  ASSERT_LT(stage1, now);
  EXPECT_EQ(refusal({budget(now)}), "");
  const std::string text = refusal({budget(stage1)});
  EXPECT_NE(text.find("largest consumers"), std::string::npos) << text;
  EXPECT_NE(text.find(fmt::format("memwall train {} --set {} --set parallel.zero_stage=1\n", file_,
                                  budget(stage1))),
            std::string::npos)
      << text;
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 4) << text;
}

TEST_F(Refusal, WhatChangesTheResultsIsLastAndSaysSo) {
  const std::string text = refusal({budget(bytes(config({"precision.mode=FP16"})))});
  const size_t other = text.find("other results");
  ASSERT_NE(other, std::string::npos) << text;
  EXPECT_EQ(text.find('\n', other), std::string::npos) << text;
  EXPECT_NE(text.find("--set precision.mode=FP16", other), std::string::npos) << text;
}

TEST_F(Refusal, NamesTheSmallestBudgetThatWorks) {
  const std::string text = refusal({"memory.budget=10KiB"});
  EXPECT_NE(text.find("more ranks"), std::string::npos) << text;
  const size_t at = text.find("memory.budget of ");
  ASSERT_NE(at, std::string::npos) << text;
  const int64_t smallest = std::stoll(text.substr(at + 17));
  const SearchResult works = nearest_settings(base(), smallest, 4);
  ASSERT_FALSE(works.fitting.empty());
  EXPECT_EQ(works.fitting[0].planned_bytes, smallest);
  EXPECT_TRUE(nearest_settings(base(), smallest - 1, 4).fitting.empty());
}

}  // namespace
}  // namespace memwall::test
