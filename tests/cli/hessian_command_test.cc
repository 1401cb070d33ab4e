// `memwall hessian` as users and scripts meet it, on the run that a training left: what it prints,
// draws and dumps, and what it refuses.
#include <Random123/philox.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "tests/cli/memwall_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

// A safetensors file, read by its definition: u64 length, JSON, data.
struct Tensors {
  Json header;
  std::string data;

  explicit Tensors(const fs::path& path) {
    const std::string text = file_text(path);
    uint64_t length = 0;
    if (text.size() < sizeof(length)) throw InputError("no safetensors file", path.string());
    std::memcpy(&length, text.data(), sizeof(length));
    header = Json::parse(text.substr(sizeof(length), length));
    data = text.substr(sizeof(length) + length);
  }
  std::set<std::string> names() const {
    std::set<std::string> out;
    for (const auto& [name, entry] : header.items()) {
      if (name != "__metadata__") out.insert(name);
    }
    return out;
  }
  std::vector<double> operator[](const std::string& name) const {
    const Json& entry = header.at(name);
    EXPECT_EQ(entry["dtype"], "F64") << name;
    const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    std::vector<double> out((end - begin) / sizeof(double));
    std::memcpy(out.data(), data.data() + begin, end - begin);
    return out;
  }
};

// docs/adahessian.md, "Signs".
double sign_of(uint64_t seed, uint32_t tensor, uint32_t draw, uint64_t element) {
  const uint64_t block = element / 128;
  const auto words = r123::Philox4x32_R<10>()(
      {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), tensor, draw}},
      {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}});
  return (words[element % 128 / 32] >> (element % 32) & 1) != 0 ? -1.0 : 1.0;
}

// GPT-2's tensors of two layers in the model's order, as GPT2LMHeadModel names them.
std::vector<std::string> names_in_order() {
  std::vector<std::string> names = {"wte.weight", "wpe.weight"};
  for (const char* block : {"h.0.", "h.1."}) {
    for (const char* layer :
         {"ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"}) {
      for (const char* kind : {".weight", ".bias"}) {
        names.push_back(std::string(block) + layer + kind);
      }
    }
  }
  names.insert(names.end(), {"ln_f.weight", "ln_f.bias"});
  return names;
}

class HessianCommand : public testing::Test {
 protected:
  // One run for all cases: two ranks at stage 3.
  static void SetUpTestSuite() {
    place = new Workplace("hessian");
    const Outcome outcome = place->memwall(
        {"train", "tiny.textproto", "--run-dir", "run", "--set", "parallel.zero_stage=3"}, 2);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  static void TearDownTestSuite() {
    delete place;
    place = nullptr;
  }

  static Outcome hessian(std::vector<std::string> words, int ranks = 0) {
    words.insert(words.begin(), "hessian");
    return place->memwall(words, ranks);
  }
  static Json hessian_json(std::vector<std::string> words, int ranks = 0) {
    words.push_back("--json");
    const Outcome outcome = hessian(std::move(words), ranks);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return Json::parse(outcome.out);
  }
  // One line of Memwall's, whatever mpirun adds.
  static void expect_refused(const Outcome& outcome, int code,
                             const std::vector<std::string>& parts) {
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_TRUE(outcome.out.empty()) << outcome.out;
    std::istringstream lines(outcome.err);
    std::string line, said;
    int64_t count = 0;
    while (std::getline(lines, line)) {
      if (!line.starts_with("memwall: ")) continue;
      said = line;
      ++count;
    }
    EXPECT_EQ(count, 1) << outcome.err;
    for (const std::string& part : parts) {
      EXPECT_NE(said.find(part), std::string::npos) << part << " in\n" << outcome.err;
    }
  }

  static Workplace* place;
};
Workplace* HessianCommand::place = nullptr;

void expect_eigenvalues(const Json& all, const Json& tensors) {
  const Json &largest = all["largest_end"], &smallest = all["smallest_end"];
  ASSERT_EQ(largest.size(), 3u);
  ASSERT_EQ(smallest.size(), 3u);
  EXPECT_EQ(all["largest"], largest[0]["value"]);
  EXPECT_EQ(all["smallest"], smallest[0]["value"]);
  const double top = all["largest"], bottom = all["smallest"];
  EXPECT_GT(top, 0.0);
  EXPECT_LT(bottom, top);
  EXPECT_EQ(all["largest_magnitude"], std::abs(top) >= std::abs(bottom) ? top : bottom);
  EXPECT_GE(largest[0]["value"], largest[1]["value"]);
  EXPECT_GE(largest[1]["value"], largest[2]["value"]);
  EXPECT_LE(smallest[0]["value"], smallest[1]["value"]);
  EXPECT_EQ(all["converged"], true);
  for (const Json& end : {largest, smallest}) {
    for (const Json& eigenvalue : end) {
      EXPECT_EQ(eigenvalue["converged"], true);
      EXPECT_LE(eigenvalue["residual"].get<double>(), 1e-4 * std::max(top, -bottom));
      double shares = 0.0;
      for (const auto& [name, share] : eigenvalue["share_per_tensor"].items()) {
        EXPECT_TRUE(tensors.contains(name)) << name;
        shares += share.get<double>();
      }
      EXPECT_NEAR(shares, 1.0, 1e-9);
    }
  }
}

TEST_F(HessianCommand, SaysTraceAndSpectrumAndDrawsThem) {
  const Json one = hessian_json({"run", "--windows", "8"});
  EXPECT_EQ(one["step"], 6);
  EXPECT_EQ(one["windows"], 8);
  EXPECT_EQ(one["tokens"], 8 * 16);
  EXPECT_EQ(one["probes"], 16);
  EXPECT_GT(one["trace_standard_error"], 0.0);
  const Json& tensors = one["trace_per_tensor"];
  EXPECT_EQ(tensors.size(), 28u);
  double sum = 0.0;
  for (const std::string& name : names_in_order()) {
    ASSERT_TRUE(tensors.contains(name)) << name;
    EXPECT_GE(one["trace_per_tensor_standard_error"].at(name), 0.0);
    sum += tensors[name].get<double>();
  }
  EXPECT_NEAR(sum, one["trace"].get<double>(), 1e-9 * std::abs(sum));
  expect_eigenvalues(one["eigenvalues"], tensors);
  const int64_t products = one["eigenvalues"]["products"];
  EXPECT_LE(products, 80);
  EXPECT_GT(one["memory"]["arena"], 0);
  EXPECT_GE(one["memory"]["lanczos_vectors"], 80 * 8 * 11000) << "of all 80, whatever was needed";
  const std::string svg = file_text(place->path("run/hessian.svg"));
  EXPECT_TRUE(svg.starts_with("<svg") || svg.starts_with("<?xml")) << svg.substr(0, 80);
  EXPECT_NE(svg.find("h.1.mlp.c_fc.weight"), std::string::npos);

  const Json two = hessian_json({"run", "--windows", "8", "--svg", "two.svg"}, 2);
  EXPECT_FALSE(file_text(place->path("two.svg")).empty());
  for (const char* key : {"loss", "trace"}) {
    EXPECT_NEAR(two[key].get<double>(), one[key].get<double>(),
                1e-4 * std::abs(one[key].get<double>()))
        << key;
  }
  for (const char* key : {"largest", "smallest", "largest_magnitude"}) {
    const double value = one["eigenvalues"][key];
    EXPECT_NEAR(two["eigenvalues"][key].get<double>(), value, 1e-3 * std::abs(value)) << key;
  }
  EXPECT_LT(two["memory"]["lanczos_vectors"], one["memory"]["lanczos_vectors"]);

  const Outcome text = hessian({"run", "--windows", "8"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char* part : {"trace by tensor", "ln_f.bias", "largest", "smallest", "16 probes"}) {
    EXPECT_NE(text.out.find(part), std::string::npos) << part << " in\n" << text.out;
  }
  EXPECT_NE(text.err.find("run/hessian.svg"), std::string::npos) << text.err;
}

TEST_F(HessianCommand, TheLossIsThatOfEval) {
  const Outcome eval = place->memwall({"eval", "run", "--json"});
  ASSERT_EQ(eval.exit_code, 0) << eval.err;
  const Json expected = Json::parse(eval.out);
  const int64_t windows = expected["tokens"].get<int64_t>() / 16;
  const Json found = hessian_json({"run", "--data", "validation", "--iterations", "0", "--probes",
                                   "1", "--windows", std::to_string(windows)});
  EXPECT_EQ(found["tokens"], expected["tokens"]);
  EXPECT_NEAR(found["loss"].get<double>(), expected["loss"].get<double>(), 1e-6);
  EXPECT_TRUE(found["eigenvalues"].is_null());
  EXPECT_EQ(found["memory"]["lanczos_vectors"], 0);
  EXPECT_EQ(found["trace_standard_error"], "nan") << "of one probe there is none";
}

TEST_F(HessianCommand, DumpsWhatTheFirstProbeSays) {
  const int64_t seed = (int64_t{7} << 32) + 5;  // both halves of the key
  Json said[2];
  for (const int ranks : {1, 2}) {
    const std::string folder = "dump" + std::to_string(ranks);
    said[ranks - 1] = hessian_json({"run", "--windows", "8", "--probes", "1", "--iterations", "0",
                                    "--seed", std::to_string(seed), "--dump", folder},
                                   ranks);
    const Tensors z(place->path(folder) / "z.safetensors");
    const Tensors hz(place->path(folder) / "hessian_product.safetensors");
    const Tensors g(place->path(folder) / "gradient.safetensors");
    const std::vector<std::string> order = names_in_order();
    EXPECT_EQ(z.names().size(), order.size());
    double trace = 0.0, norm = 0.0;
    for (size_t p = 0; p < order.size(); ++p) {
      const std::string name = "transformer." + order[p];
      ASSERT_TRUE(z.names().contains(name)) << name;
      const std::vector<double> signs = z[name], product = hz[name], gradient = g[name];
      ASSERT_EQ(product.size(), signs.size());
      ASSERT_EQ(gradient.size(), signs.size());
      EXPECT_EQ(hz.header[name]["shape"], z.header[name]["shape"]);
      double part = 0.0;
      for (size_t e = 0; e < signs.size(); ++e) {
        ASSERT_EQ(signs[e], sign_of(static_cast<uint64_t>(seed), static_cast<uint32_t>(p), 1, e))
            << name << ' ' << e;
        part += signs[e] * product[e];
        norm += gradient[e] * gradient[e];
      }
      const double expected = said[ranks - 1]["trace_per_tensor"][order[p]];
      EXPECT_NEAR(part, expected, 1e-9 * std::max(1.0, std::abs(expected))) << name;
      trace += part;
    }
    EXPECT_NEAR(trace, said[ranks - 1]["trace"].get<double>(), 1e-8);
    EXPECT_GT(norm, 0.0);
  }
  // Whatever the spread: one rank takes four micro-steps of two windows, two ranks take two.
  const Tensors one(place->path("dump1") / "gradient.safetensors");
  const Tensors two(place->path("dump2") / "gradient.safetensors");
  for (const std::string& name : one.names()) {
    const std::vector<double> a = one[name], b = two[name];
    double difference = 0.0, length = 0.0;
    for (size_t e = 0; e < a.size(); ++e) {
      difference = std::max(difference, std::abs(a[e] - b[e]));
      length = std::max(length, std::abs(a[e]));
    }
    EXPECT_LE(difference, 1e-6 + 1e-4 * length) << name;
  }
  const Json other = hessian_json({"run", "--windows", "8", "--probes", "1", "--iterations", "0"});
  EXPECT_NE(other["trace"], said[0]["trace"]) << "another seed";
  EXPECT_EQ(other["loss"], said[0]["loss"]);
}

TEST_F(HessianCommand, BadInput) {
  expect_refused(hessian({"run", "--probes", "0"}), 2, {"--probes"});
  expect_refused(hessian({"run", "--windows", "0"}), 2, {"--windows"});
  expect_refused(hessian({"run", "--iterations", "-1"}), 2, {"--iterations"});
  expect_refused(hessian({"run", "--eigenvalues", "0"}), 2, {"--eigenvalues"});
  expect_refused(hessian({"run", "--tolerance", "0"}), 2, {"--tolerance"});
  expect_refused(hessian({"run", "--data", "test"}), 2, {"--data", "train", "validation"});
  expect_refused(hessian({}), 2, {"RUN"});
  expect_refused(hessian({"run", "--svg", "nowhere/picture.svg"}), 2, {"nowhere", "--svg"});
  expect_refused(hessian({"run", "--windows", "3"}, 2), 2,
                 {"--windows", "3 windows", "2 ranks", "multiple of 2"});
  fs::create_directory(place->path("full"));
  write_text(place->path("full/file"), "mine");
  for (const int ranks : {0, 2}) {
    expect_refused(hessian({"run", "--dump", "full"}, ranks), 2, {"full", "not an empty folder"});
    expect_refused(hessian({"nothing"}, ranks), 2, {"nothing"});
    expect_refused(hessian({"full"}, ranks), 2, {"full"});
  }
  EXPECT_EQ(file_text(place->path("full/file")), "mine");
  EXPECT_EQ(std::distance(fs::directory_iterator(place->path("full")), {}), 1);
}

TEST_F(HessianCommand, ValidationWhereThereIsNone) {
  const Outcome trained =
      place->memwall({"train", "tiny.textproto", "--run-dir", "whole", "--set",
                      "data.validation_fraction=0", "--set", "run.eval_every=0"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  expect_refused(hessian({"whole", "--data", "validation"}), 2,
                 {"whole", "no validation split", "--data train"});
  EXPECT_FALSE(fs::exists(place->path("whole/hessian.svg")));
}

// As many vectors as the model has parameters: 22 TB.
TEST_F(HessianCommand, VectorsBeyondTheMachineAreRefusedBeforeTheyAreAllocated) {
  const Outcome trained = place->memwall({"train", "tiny.textproto", "--run-dir", "wide", "--set",
                                          "model.hidden_size=256", "--set", "run.steps=1", "--set",
                                          "run.eval_every=0", "--set", "run.save_every=1"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  for (const int ranks : {0, 2}) {
    const Outcome outcome = hessian({"wide", "--windows", "4", "--iterations", "1000000"}, ranks);
    expect_refused(outcome, 3,
                   {"Lanczos's vectors of 1000000 products", "left", "--iterations of at most "});
    // What is named fits.
    const std::string mark = "--iterations of at most ";
    const int64_t most = std::stoll(outcome.err.substr(outcome.err.find(mark) + mark.size()));
    EXPECT_GT(most, 80);
    EXPECT_LT(most, 1000000);
  }
  EXPECT_FALSE(fs::exists(place->path("wide/hessian.svg")));
  const Json fits = hessian_json(
      {"wide", "--windows", "2", "--probes", "1", "--iterations", "4", "--eigenvalues", "1"});
  EXPECT_EQ(fits["eigenvalues"]["products"], 4);
}

}  // namespace
}  // namespace memwall::test
