// A model of 10^12 parameters on 16,384 ranks: predicted within seconds and without much memory.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

TEST(Trillion, OnSixteenThousandRanks) {
  const Workplace place("trillion");
  write_text(place.path("trillion.textproto"),
             R"(model { num_layers: 128 hidden_size: 25600 num_heads: 160 context_length: 2048
        vocab_size: 51200 }
data { micro_batch_size: 1 }
precision { mode: FP16 }
activation_checkpointing { policy: BLOCK }
parallel { zero_stage: 3 prefetch_depth: 1 })");
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome =
      place.memwall({"simulate", "trillion.textproto", "--cluster",
                     std::string(MEMWALL_SOURCE_DIR) + "/configs/clusters/hgx-h200.textproto",
                     "--ranks", "1024..16384", "--algorithm", "ring", "--json"});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  rusage children{};
  ASSERT_EQ(getrusage(RUSAGE_CHILDREN, &children), 0);
  const double megabytes = static_cast<double>(children.ru_maxrss) / 1024;
  RecordProperty("seconds", std::to_string(seconds.count()));
  RecordProperty("megabytes", std::to_string(megabytes));
  EXPECT_LT(seconds.count(), 10.0);
  EXPECT_LT(megabytes, 1000.0);

  const auto json = nlohmann::json::parse(outcome.out);
  const auto& last = json["rows"].back();
  EXPECT_EQ(last["ranks"], 16384);
  // 6 * 10^12 * 2048 FLOPs of products, and two thirds of the forward again, at 643 TFLOP/s.
  const double least = 6.0 * 1e12 * 2048 / (0.65 * 989.4e12);
  EXPECT_GT(last["step_seconds"]["compute"].get<double>(), least);
  EXPECT_LT(last["step_seconds"]["compute"].get<double>(), 1.5 * least);
}

}  // namespace
}  // namespace memwall::test
