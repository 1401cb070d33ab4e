// The table "Published points" of docs/scaling.md: what was published, what is predicted of the
// closest thing that a plan can express, and the error that the page states. A prediction that
// moves by more than the last digit shown there fails, and the page has to follow.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

struct Model {
  int64_t layers = 0, width = 0, heads = 0, time = 0, vocabulary = 0;
  // Of the products of a sequence, Narayanan et al. 2021, formula (3); with `passes` 4 forward,
  // backward and forward again, with 3 without the last.
  double flops(double passes) const {
    const auto l = static_cast<double>(layers), h = static_cast<double>(width);
    const auto s = static_cast<double>(time), v = static_cast<double>(vocabulary);
    return passes * 24 * s * l * h * h * (1 + s / (6 * h)) + 6 * s * v * h;
  }
};

struct Setting {
  std::string cluster;
  Model model;
  int64_t ranks = 0, micro_batch = 1, a_rank = 1;  // sequences
  std::string precision = "FP16", checkpointing = "policy: BLOCK", what_if = "flops=1";
  std::string source = MEMWALL_SOURCE_DIR;  // of configs/clusters
};

struct Seconds {
  double full_overlap = 0.0, no_overlap = 0.0;
};

class PublishedPoints : public testing::Test {
 protected:
  Seconds step(const Setting& s) const {
    const Model& m = s.model;
    write_text(
        place.path("m.textproto"),
        fmt::format("model {{ num_layers: {} hidden_size: {} num_heads: {} context_length: {} "
                    "vocab_size: {} }}\ndata {{ micro_batch_size: {} global_batch_size: {} }}\n"
                    "precision {{ mode: {} }}\nactivation_checkpointing {{ {} }}\n"
                    "parallel {{ zero_stage: 3 prefetch_depth: 1 }}\n",
                    m.layers, m.width, m.heads, m.time, m.vocabulary, s.micro_batch,
                    s.a_rank * s.ranks, s.precision, s.checkpointing));
    const Outcome outcome =
        place.memwall({"simulate", "m.textproto", "--cluster",
                       fmt::format("{}/configs/clusters/{}.textproto", s.source, s.cluster),
                       "--ranks", std::to_string(s.ranks), "--what-if", s.what_if, "--json"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    if (outcome.exit_code != 0) return {1.0, 1.0};
    const Json seconds = Json::parse(outcome.out)["rows"][0]["step_seconds"];
    return {seconds["full_overlap"], seconds["no_overlap"]};
  }
  // 1e12 FLOP/s of a rank.
  Seconds teraflops(const Setting& s, double passes) const {
    const double flops = 1e-12 * static_cast<double>(s.a_rank) * s.model.flops(passes);
    const Seconds seconds = step(s);
    return {flops / seconds.full_overlap, flops / seconds.no_overlap};
  }

  const Workplace place{"published"};
};

// Llama 3.1 8B of torchtitan, BF16, FSDP, compiled: 6,667 tokens/s a GPU on 8, 6,514 on 128.
TEST_F(PublishedPoints, Torchtitan) {
  const auto tokens = [&](int64_t ranks, const std::string& what_if) {
    const Seconds s = step({"grand-teton-h100",
                            {36, 4096, 32, 8192, 128256},
                            ranks,
                            2,
                            2,
                            "BF16",
                            "policy: SELECTIVE preset: \"attention_and_residual\"",
                            what_if});
    return Seconds{2 * 8192 / s.full_overlap, 2 * 8192 / s.no_overlap};
  };
  const double published = 6514.0 / 6667.0;
  const Seconds few = tokens(8, "flops=1"), many = tokens(128, "flops=1");
  EXPECT_NEAR(many.full_overlap / few.full_overlap / published - 1, 0.026, 0.001);
  EXPECT_NEAR(many.no_overlap / few.no_overlap / published - 1, -0.003, 0.001);
  EXPECT_NEAR(few.full_overlap / 6667 - 1, -0.47, 0.005);
  EXPECT_NEAR(many.full_overlap / 6514 - 1, -0.45, 0.005);
  EXPECT_NEAR(few.no_overlap / 6667 - 1, -0.48, 0.005);
  EXPECT_NEAR(many.no_overlap / 6514 - 1, -0.48, 0.005);
  const Seconds fused_few = tokens(8, "dram=4"), fused_many = tokens(128, "dram=4");
  EXPECT_NEAR(fused_few.full_overlap / 6667 - 1, 0.08, 0.005);
  EXPECT_NEAR(fused_many.full_overlap / fused_few.full_overlap / published - 1, 0.022, 0.001);
  EXPECT_NEAR(fused_many.no_overlap / fused_few.no_overlap / published - 1, -0.032, 0.001);
}

// Megatron-LM's README: GPT-3 with 1152 sequences a step, 47 % of the peak on 96 H100, 42 % on
// 4608.
TEST_F(PublishedPoints, MegatronStrongScaling) {
  struct Row {
    int64_t ranks, micro_batch;
    double full_overlap, no_overlap;
  };
  const std::vector<Row> rows = {{96, 6, 0.437, 0.410},
                                 {192, 6, 0.452, 0.408},
                                 {384, 3, 0.451, 0.364},
                                 {576, 2, 0.450, 0.323},
                                 {1152, 1, 0.421, 0.226}};
  for (const Row& row : rows) {
    const Seconds found = teraflops(
        {"dgx-h100", {96, 12288, 96, 2048, 51200}, row.ranks, row.micro_batch, 1152 / row.ranks},
        3);
    EXPECT_NEAR(found.full_overlap / 989.4, row.full_overlap, 0.001) << row.ranks;
    EXPECT_NEAR(found.no_overlap / 989.4, row.no_overlap, 0.001) << row.ranks;
  }
}

// Narayanan et al. 2021, table 1: TFLOP/s a GPU, recomputation counted.
TEST_F(PublishedPoints, MegatronWeakScaling) {
  struct Row {
    Model model;
    int64_t ranks, micro_batch, a_rank;
    double full_overlap, no_overlap;
  };
  const std::vector<Row> rows = {{{24, 2304, 24, 2048, 51200}, 32, 16, 16, 159, 155},
                                 {{30, 3072, 32, 2048, 51200}, 64, 8, 8, 174, 166},
                                 {{36, 4096, 32, 2048, 51200}, 128, 4, 4, 198, 177},
                                 {{40, 6144, 48, 2048, 51200}, 256, 4, 4, 214, 189},
                                 {{48, 8192, 64, 2048, 51200}, 512, 3, 3, 223, 187},
                                 {{105, 20480, 128, 2048, 51200}, 2520, 1, 1, 242, 150}};
  for (const Row& row : rows) {
    const Seconds found =
        teraflops({"dgx-a100", row.model, row.ranks, row.micro_batch, row.a_rank}, 4);
    EXPECT_NEAR(found.full_overlap, row.full_overlap, 0.51) << row.ranks;
    EXPECT_NEAR(found.no_overlap, row.no_overlap, 0.51) << row.ranks;
  }
}

// The same paper's table 2: ZeRO 3 without model parallelism.
TEST_F(PublishedPoints, ZeroThreeOnA100) {
  struct Row {
    int64_t ranks, micro_batch;
    double full_overlap, no_overlap, one_nic;
  };
  const std::string file = "configs/clusters/dgx-a100.textproto";
  std::string text = file_text(fs::path(MEMWALL_SOURCE_DIR) / file);
  const size_t nics = text.find("nics: 8");
  ASSERT_NE(nics, std::string::npos);
  fs::create_directories(place.path("configs/clusters"));
  write_text(place.path(file), text.replace(nics, 7, "nics: 1"));
  for (const Row& row :
       {Row{384, 4, 233, 207, 121}, Row{768, 2, 233, 182, 80}, Row{1536, 1, 232, 139, 48}}) {
    Setting setting{
        "dgx-a100", {96, 12288, 96, 2048, 51200}, row.ranks, row.micro_batch, 1536 / row.ranks};
    const Seconds found = teraflops(setting, 4);
    EXPECT_NEAR(found.full_overlap, row.full_overlap, 0.51) << row.ranks;
    EXPECT_NEAR(found.no_overlap, row.no_overlap, 0.51) << row.ranks;
    setting.source = place.path("").string();
    EXPECT_NEAR(teraflops(setting, 4).no_overlap, row.one_nic, 0.51) << row.ranks;
  }
}

// ZeRO's 60 billion parameters on 64 to 400 V100: more memory a GPU lets the batch grow, and the
// work of a GPU with it.
TEST_F(PublishedPoints, ZeroIsSuperlinear) {
  struct Row {
    int64_t ranks, a_rank;
    double full_overlap, no_overlap;
  };
  for (const Row& row : {Row{64, 1, 77.3, 47.8}, Row{128, 3, 78.3, 64.4}, Row{256, 3, 78.3, 63.7},
                         Row{400, 4, 78.4, 66.3}}) {
    const Seconds found =
        teraflops({"dgx-2", {75, 8192, 32, 1024, 50257}, row.ranks, row.a_rank, row.a_rank}, 4);
    EXPECT_NEAR(found.full_overlap, row.full_overlap, 0.051) << row.ranks;
    EXPECT_NEAR(found.no_overlap, row.no_overlap, 0.051) << row.ranks;
  }
}

}  // namespace
}  // namespace memwall::test
