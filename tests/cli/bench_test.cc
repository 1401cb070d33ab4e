// `memwall bench`: what scripts read of it, and that its list of products is the step's. No test
// asks how long anything takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

// A GPT whose time is cut into chunks of query rows: 512 tokens are two chunks of 256.
struct Model {
  int64_t layers = 2, width = 32, heads = 2, time = 512, vocabulary = 64, batch = 2;

  std::vector<std::string> sets() const {
    const auto set = [](const std::string& field, int64_t value) {
      return "--set=" + field + '=' + std::to_string(value);
    };
    return {set("model.num_layers", layers),     set("model.hidden_size", width),
            set("model.num_heads", heads),       set("model.context_length", time),
            set("model.vocab_size", vocabulary), set("data.micro_batch_size", batch)};
  }
  // A rank's micro-step. 6 for each weight of a product and token: forward, and the two of
  // backward. Attention: scores and values forward; backward the scores again and four more
  // products; chunk i of 256 query rows sees 256 (i + 1) keys, 2 width FLOPs each.
  int64_t gemm_flops() const {
    const int64_t weights = layers * 12 * width * width + width * vocabulary;
    const int64_t chunk = std::min<int64_t>(256, time), chunks = time / chunk;
    int64_t seen = 0;
    for (int64_t i = 0; i < chunks; ++i) seen += chunk * chunk * (i + 1);
    return 6 * weights * batch * time + layers * batch * 7 * seen * 2 * width;
  }
};

class BenchCommand : public testing::Test {
 protected:
  BenchCommand() {
    write_text(place.path("bench.textproto"),
               "model { num_layers: 1 hidden_size: 32 num_heads: 2 context_length: 64 "
               "vocab_size: 64 }\ndata { micro_batch_size: 1 }\nrun { name: \"bench\" }\n");
  }
  Json bench(const std::vector<std::string>& words, int ranks = 0) {
    std::vector<std::string> all = {"bench"};
    all.insert(all.end(), words.begin(), words.end());
    all.push_back("--json");
    const Outcome outcome = place.memwall(all, ranks);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return Json::parse(outcome.out, nullptr, false);
  }
  Json bench_step(const std::vector<std::string>& sets, int ranks = 0) {
    std::vector<std::string> words = {"step", "bench.textproto", "--steps", "2"};
    words.insert(words.end(), sets.begin(), sets.end());
    return bench(words, ranks);
  }
  void expect_error(const std::vector<std::string>& words, const std::vector<std::string>& parts,
                    int ranks = 0) {
    std::vector<std::string> all = {"bench"};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = place.memwall(all, ranks);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("memwall: "), std::string::npos) << outcome.err;
    for (const std::string& part : parts) {
      EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in\n" << outcome.err;
    }
  }
  const Workplace place{"bench"};
};

int64_t calls_of(const Json& step, const std::string& op) {
  for (const Json& entry : step["ops"]) {
    if (entry["op"] == op) return entry["calls"];
  }
  return 0;
}

double faster_way(const Json& step) {
  return std::min(step["gemm_seconds_kernel"].get<double>(),
                  step["gemm_seconds_library"].get<double>());
}

TEST_F(BenchCommand, StepFieldsBelongTogether) {
  const Json step = bench_step(Model{}.sets());
  ASSERT_TRUE(step.is_object());
  for (const char* key :
       {"step_seconds", "step_seconds_min", "tokens_per_second", "gemm_seconds", "gemm_seconds_min",
        "gemm_fraction", "gemm_fraction_min", "gemm_seconds_kernel", "gemm_seconds_library"}) {
    ASSERT_TRUE(step.contains(key)) << key;
    EXPECT_GT(step[key], 0.0) << key;
  }
  EXPECT_EQ(step["ranks"], 1);
  EXPECT_EQ(step["threads"], 1);
  EXPECT_EQ(step["steps"], 2);
  EXPECT_EQ(step["tokens"], 2 * 512);
  EXPECT_EQ(step["skipped_steps"], 0);
  const double seconds = step["step_seconds"], products = step["gemm_seconds"];
  EXPECT_DOUBLE_EQ(step["tokens_per_second"], 1024 / seconds);
  EXPECT_DOUBLE_EQ(step["gemm_fraction"], products / seconds);
  EXPECT_EQ(products, faster_way(step));
  EXPECT_LE(step["step_seconds_min"], seconds);
  EXPECT_FALSE(step.contains("gemm_seconds_kernel_fp16"));
}

TEST_F(BenchCommand, ListHoldsTheStepsProducts) {
  for (const int64_t time : {64, 256, 512, 1024}) {
    Model model;
    model.time = time;
    const Json step = bench_step(model.sets());
    EXPECT_EQ(step["gemm_flops"], model.gemm_flops()) << time;
    // What the executor was seen to run, and what the list holds.
    EXPECT_EQ(step["gemm_calls"], calls_of(step, "gemm")) << time;
  }
}

TEST_F(BenchCommand, ListGrowsWithMicroStepsAndRecomputation) {
  const Model model;
  std::vector<std::string> sets = model.sets();
  sets.push_back("--set=data.global_batch_size=6");
  const Json three = bench_step(sets);
  EXPECT_EQ(three["gemm_flops"], 3 * model.gemm_flops());
  EXPECT_EQ(three["gemm_calls"], calls_of(three, "gemm"));
  sets = model.sets();
  sets.push_back("--set=activation_checkpointing.policy=BLOCK");
  const Json block = bench_step(sets);
  EXPECT_GT(block["gemm_flops"], model.gemm_flops());
  EXPECT_EQ(block["gemm_calls"], calls_of(block, "gemm"));
}

TEST_F(BenchCommand, SplitIsTheStep) {
  for (const int ranks : {0, 2}) {
    const Json step = bench_step({"--set=parallel.zero_stage=3"}, ranks);
    double share = 0.0;
    for (const Json& entry : step["ops"]) {
      EXPECT_GE(entry["seconds"], 0.0) << entry;
      share += entry["share"].get<double>();
    }
    EXPECT_NEAR(share, 1.0, 1e-9);
    EXPECT_EQ(calls_of(step, "adamw"), 3);  // embedding, one block, head
    EXPECT_EQ(step["tokens"], 64 * std::max(ranks, 1));
    EXPECT_EQ(calls_of(step, "reduce_scatter"), ranks == 2 ? 3 : 0);
  }
}

TEST_F(BenchCommand, SixteenBitProductsAreMeasuredBesideTheLimit) {
  for (const auto& [mode, key] : {std::pair{"FP16", "gemm_seconds_kernel_fp16"},
                                  std::pair{"BF16", "gemm_seconds_kernel_bf16"}}) {
    std::vector<std::string> sets = Model{}.sets();
    sets.push_back(std::string("--set=precision.mode=") + mode);
    const Json step = bench_step(sets);
    EXPECT_EQ(step["precision"], mode);
    EXPECT_GT(step[key], 0.0);
    EXPECT_EQ(step["gemm_seconds"], faster_way(step));
    EXPECT_EQ(step["gemm_flops"], Model{}.gemm_flops());
  }
}

TEST_F(BenchCommand, GemmListsEachKindOnce) {
  std::vector<std::string> words = {"gemm", "bench.textproto", "--seconds", "0.001"};
  const std::vector<std::string> sets = Model{}.sets();
  words.insert(words.end(), sets.begin(), sets.end());
  const Json found = bench(words);
  EXPECT_EQ(found["gemm_flops"], Model{}.gemm_flops());
  int64_t flops = 0;
  std::set<std::string> kinds;
  for (const Json& p : found["products"]) {
    const int64_t one = 2 * p["batch"].get<int64_t>() * p["m"].get<int64_t>() *
                        p["n"].get<int64_t>() * p["k"].get<int64_t>();
    EXPECT_EQ(p["flops"], one);
    flops += one * p["calls"].get<int64_t>();
    for (const char* rate : {"gflops_kernel", "gflops_kernel_fp16", "gflops_library"}) {
      EXPECT_GT(p[rate], 0.0) << rate;
    }
    for (const Json& name : p["names"]) kinds.insert(name);
  }
  EXPECT_EQ(flops, Model{}.gemm_flops());
  EXPECT_TRUE(kinds.contains("block*/attn/qkv")) << found;
}

TEST_F(BenchCommand, GemmTakesShapes) {
  const Json found =
      bench({"gemm", "--shape", "48x32x64:TN", "--shape", "8x16x24", "--seconds", "0.001"});
  ASSERT_EQ(found["products"].size(), 2u);
  std::set<std::string> layouts;
  for (const Json& p : found["products"]) layouts.insert(p["layout"]);
  EXPECT_EQ(layouts, (std::set<std::string>{"NN", "TN"}));
  EXPECT_EQ(found["gemm_flops"], 2 * (48 * 32 * 64 + 8 * 16 * 24));
}

TEST_F(BenchCommand, CollectivesAreVerified) {
  const Json found =
      bench({"collectives", "--bytes", "48KiB", "--bytes", "48B", "--rounds", "2"}, 3);
  std::set<std::string> kinds;
  for (const Json& c : found["collectives"]) {
    EXPECT_TRUE(c["verified"]);
    EXPECT_GT(c["seconds"], 0.0);
    EXPECT_LE(c["seconds_min"], c["seconds"]);
    kinds.insert(c["collective"].get<std::string>() + ' ' + c["transport"].get<std::string>());
    if (c["bytes"] != 48 * 1024) continue;
    // (N-1)/N of the buffer; each of the others' shards; both of these; everything.
    const std::map<std::string, int64_t> bus = {{"reduce_scatter", 32 * 1024},
                                                {"all_gather", 96 * 1024},
                                                {"all_reduce", 64 * 1024},
                                                {"broadcast", 48 * 1024}};
    EXPECT_EQ(c["bus_bytes"], bus.at(c["collective"])) << c;
  }
  EXPECT_EQ(kinds.size(), 16u);
  EXPECT_EQ(found["collectives"].size(), 32u);
}

TEST_F(BenchCommand, HelpNamesEveryOption) {
  const std::vector<std::vector<std::string>> kinds = {
      {"step", "CONFIG", "--set", "--steps", "--json", "counter-based"},
      {"gemm", "CONFIG", "--set", "--shape", "--seconds", "--json"},
      {"collectives", "--bytes", "--rounds", "--fit", "--json"},
      {"machine", "CONFIG", "--set", "--steps", "--seconds", "--fit", "--json"}};
  for (const auto& kind : kinds) {
    const Outcome help = place.memwall({"bench", kind[0], "--help"});
    EXPECT_EQ(help.exit_code, 0);
    for (size_t i = 1; i < kind.size(); ++i) {
      EXPECT_NE(help.out.find(kind[i]), std::string::npos) << kind[i] << " in\n" << help.out;
    }
  }
}

TEST_F(BenchCommand, WrongWords) {
  expect_error({}, {"gemm, collectives, machine, step"});
  expect_error({"steps"}, {"'steps'", "gemm, collectives, machine, step"});
  expect_error({"step"}, {"CONFIG"});
  expect_error({"step", "missing.textproto"}, {"missing.textproto"});
  expect_error({"step", "bench.textproto", "--steps", "0"}, {"--steps"});
  expect_error({"step", "bench.textproto", "--set", "run.device=CUDA"}, {"run.device"});
  expect_error({"gemm"}, {"CONFIG", "--shape"});
  expect_error({"gemm", "bench.textproto", "--shape", "2x3x4"}, {"--shape", "CONFIG"});
  expect_error({"gemm", "--set", "run.seed=2", "--shape", "2x3x4"}, {"--set", "CONFIG"});
  for (const char* shape : {"2x3", "2x3x", "0x3x4", "2x3x4:N", "2x3x4:NX", "2x3x4 ", "axbxc"}) {
    expect_error({"gemm", "--shape", shape}, {"--shape", shape, "MxNxK"});
  }
  expect_error({"gemm", "--shape", "2x3x4", "--seconds", "0"}, {"--seconds"});
  expect_error({"collectives"}, {"several ranks", "mpirun"});
  expect_error({"collectives", "--bytes", "24B"}, {"--bytes 24B", "multiples of 16"}, 2);
  expect_error({"collectives", "--bytes", "2GiB"}, {"--bytes 2GiB", "1GiB"}, 2);
  expect_error({"collectives", "--bytes", "many"}, {"--bytes many"}, 2);
  expect_error({"collectives", "--rounds", "0"}, {"--rounds"}, 2);
}

}  // namespace
}  // namespace memwall::test
