// Walls by hand: a generation of round numbers, and work whose seconds one can tell.
#include "runtime/report/memory_wall.h"

#include <gtest/gtest.h>

#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"

namespace memwall::test {
namespace {

// 100 FLOP/s, 10 bytes/s of DRAM, 4 of links, 2 of NICs, 1000 bytes.
Generation slow() {
  return {.name = "slow",
          .source = "",
          .year = 2000.0,
          .flops = 100.0,
          .dram_bandwidth = 10.0,
          .memory_bytes = 1000.0,
          .link_bandwidth = 4.0,
          .nic_bandwidth = 2.0};
}

RankWork work(double flops, double dram, double link, double held, int64_t ranks) {
  return {
      .flops = flops, .dram_bytes = dram, .link_bytes = link, .held_bytes = held, .ranks = ranks};
}

TEST(MemoryWall, SecondsAndRidgesAreRatios) {
  const OnHardware p = place_on(slow(), work(300.0, 20.0, 8.0, 250.0, 2));
  EXPECT_DOUBLE_EQ(p.dram_ridge, 10.0);  // 100 FLOP/s : 10 bytes/s
  EXPECT_DOUBLE_EQ(p.link_ridge, 25.0);
  EXPECT_DOUBLE_EQ(p.compute_seconds, 3.0);
  EXPECT_DOUBLE_EQ(p.dram_seconds, 2.0);
  EXPECT_DOUBLE_EQ(p.link_seconds, 2.0);
  EXPECT_DOUBLE_EQ(p.capacity_share, 0.25);
  EXPECT_TRUE(p.fits);
  EXPECT_EQ(p.wall, Wall::kCompute);
}

TEST(MemoryWall, TheLongestTimeIsTheWall) {
  EXPECT_EQ(place_on(slow(), work(300.0, 29.0, 11.9, 1.0, 2)).wall, Wall::kCompute);
  EXPECT_EQ(place_on(slow(), work(300.0, 31.0, 11.9, 1.0, 2)).wall, Wall::kDram);
  EXPECT_EQ(place_on(slow(), work(300.0, 31.0, 12.5, 1.0, 2)).wall, Wall::kLink);
}

TEST(MemoryWall, MoreRanksThanANodeHasSendOverItsNics) {
  EXPECT_DOUBLE_EQ(place_on(slow(), work(300.0, 1.0, 8.0, 1.0, 8)).link_seconds, 2.0);
  const OnHardware far = place_on(slow(), work(300.0, 1.0, 8.0, 1.0, 9));
  EXPECT_DOUBLE_EQ(far.link_seconds, 4.0);
  EXPECT_DOUBLE_EQ(far.link_ridge, 50.0);
  EXPECT_EQ(far.wall, Wall::kLink);
}

TEST(MemoryWall, CapacityComesBeforeAll) {
  EXPECT_TRUE(place_on(slow(), work(1.0, 1e6, 0.0, 1000.0, 1)).fits);
  const OnHardware p = place_on(slow(), work(1.0, 1e6, 0.0, 1001.0, 1));
  EXPECT_FALSE(p.fits);
  EXPECT_EQ(p.wall, Wall::kCapacity);
}

TEST(MemoryWall, AMachineWithoutNicsHasNoLinkTime) {
  Generation alone = slow();
  alone.nic_bandwidth = 0.0;
  const OnHardware p = place_on(alone, work(1.0, 1.0, 8.0, 1.0, 9));
  EXPECT_EQ(p.link_seconds, 0.0);
  EXPECT_EQ(p.link_ridge, 0.0);
}

// Data sheets: an H100 of 3.35 TB/s and 989.4 TFLOPS bends at 295 FLOP/byte; a P100 has no BF16.
TEST(MemoryWall, GenerationsHaveTheirDataSheetsFigures) {
  const std::vector<Generation> half = generations("FP16");
  ASSERT_EQ(half.size(), 5u);
  for (size_t i = 1; i < half.size(); ++i) EXPECT_LT(half[i - 1].year, half[i].year);
  EXPECT_EQ(half[3].name, "H100");
  EXPECT_NEAR(place_on(half[3], work(1.0, 1.0, 0.0, 1.0, 1)).dram_ridge, 295.3, 0.1);
  EXPECT_EQ(half[4].memory_bytes, 141e9);
  EXPECT_EQ(generations("BF16")[0].flops, 0.0);
  EXPECT_EQ(generations("FP32")[0].flops, 10.6e12);
  EXPECT_EQ(generations("FP64")[0].flops, 5.3e12);
}

Plan small_plan(int64_t ranks, int64_t stage, int64_t micro_steps) {
  GptSpec spec;
  spec.layers = 2;
  spec.hidden = 64;
  spec.heads = 2;
  spec.context = spec.time = 32;
  spec.vocabulary = 256;
  spec.batch = 2;
  CompileSettings settings;
  settings.ranks = ranks;
  settings.zero_stage = stage;
  settings.micro_steps = micro_steps;
  return compile(Gpt2(spec), settings);
}

// 6 FLOPs for each weight of a product and token, and 12 * layers * time * width a token for
// attention (docs/user-guide.md, Metrics); attention's recomputed products come on top.
TEST(MemoryWall, WorkIsThePlans) {
  const Plan plan = small_plan(2, 3, 2);
  const RankWork w = rank_work(plan);
  const double weights = 2 * 12 * 64 * 64 + 256 * 64, tokens = 2 * 2 * 32;
  const double model = 6 * weights * tokens + 12 * 2 * 32 * 64 * tokens;
  EXPECT_DOUBLE_EQ(w.flops - static_cast<double>(plan.totals.recomputed_flops), model);
  // Stage 3 with two micro-steps: the whole is scattered and gathered twice, a rank sends half;
  // the head's unit (2 * width, padded to 128 elements) is gathered once a micro-step.
  double elements = 0;
  for (const Unit& unit : plan.units) elements += static_cast<double>(unit.padded);
  const double once = 128;
  EXPECT_NEAR(w.link_bytes, 4 * 2 * (elements + 2 * elements - once) / 2, 64);
  EXPECT_EQ(w.held_bytes, static_cast<double>(planned_bytes(plan)));
  EXPECT_EQ(w.ranks, 2);
}

TEST(MemoryWall, PartsAddUpToTheWholeStep) {
  for (int64_t micro_steps : {1, 3}) {
    const Plan plan = small_plan(2, 3, micro_steps);
    double flops = 0, bytes = 0, most = 1e300;
    for (const auto& part : parts_of(plan)) {
      flops += part["flops"].get<double>();
      bytes += part["dram_bytes"].get<double>();
      EXPECT_LE(part["dram_bytes"].get<double>(), most);
      most = part["dram_bytes"].get<double>();
      EXPECT_GT(part["calls"].get<int64_t>(), 0);
    }
    EXPECT_GE(flops, rank_work(plan).flops);  // arithmetic of element-wise steps counts in parts
    EXPECT_LT(flops, 1.1 * rank_work(plan).flops);
    EXPECT_DOUBLE_EQ(bytes, rank_work(plan).dram_bytes) << micro_steps;
  }
}

TEST(MemoryWall, JsonPlacesEveryGenerationThatHasThePrecision) {
  Generation given = slow();
  const auto json = memory_wall_json(small_plan(2, 0, 1), "BF16", {given});
  ASSERT_EQ(json["generations"].size(), 6u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(json["generations"][i]["placement"].is_null(), i < 2);
  EXPECT_EQ(json["generations"][5]["given"], true);
  EXPECT_EQ(json["generations"][5]["placement"]["wall"], "capacity");
}

}  // namespace
}  // namespace memwall::test
