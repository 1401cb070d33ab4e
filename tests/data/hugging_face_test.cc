// Hugging Face GPT-2 folders: those of transformers, our own, and damaged ones.
#include "runtime/data/hugging_face.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/data/hugging_face_config.h"
#include "tests/data/temporary_folder.h"

namespace memwall {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::string kGolden = MEMWALL_SOURCE_DIR "/tests/golden/gpt2_tiny";
const Gpt2Config kTiny{.num_layers = 2,
                       .hidden_size = 6,
                       .num_heads = 3,
                       .context_length = 5,
                       .vocab_size = 7,
                       .layer_norm_epsilon = 1e-5};

std::vector<float> all_of(const WeightSource& source, std::string_view name) {
  std::vector<float> values(static_cast<size_t>(source.shape(name).elements()));
  source.read(name, 0, std::span(values));
  return values;
}

// Tensor number i holds i, i + 1/1024, i + 2/1024, ...
std::vector<float> values_of(size_t index, const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(index) + static_cast<float>(i) / 1024.0f;
  }
  return values;
}

void write_tensors(const std::string& path, const std::vector<NamedShape>& tensors) {
  std::vector<SafetensorsSpec> specs;
  for (const auto& [name, shape] : tensors) specs.push_back({name, DType::kF32, shape});
  SafetensorsWriter writer(path, specs);
  for (size_t i = 0; i < tensors.size(); ++i) {
    writer.append(tensors[i].name, values_of(i, tensors[i].shape));
  }
  writer.finish();
}

using Edit = std::function<void(std::vector<NamedShape>&)>;

class HuggingFaceTest : public testing::Test {
 protected:
  // A folder of kTiny whose tensors or configuration were changed.
  std::string folder_with(const Edit& edit, const json& patch = json::object()) {
    const std::string folder = root_.at("model" + std::to_string(count_++));
    fs::create_directory(folder);
    json config = json::parse(gpt2_config_json(kTiny));
    config.merge_patch(patch);  // null removes
    root_.write(fs::path(folder).filename().string() + "/config.json", config.dump());
    auto tensors = gpt2_tensors(kTiny);
    edit(tensors);
    write_tensors(folder + "/model.safetensors", tensors);
    return folder;
  }
  void expect_refused(const std::string& folder, std::initializer_list<std::string> parts) {
    expect_input_error([&] { HuggingFaceFolder{folder}; }, parts);
  }

  TemporaryFolder root_;
  int count_ = 0;
};

NamedShape& find(std::vector<NamedShape>& tensors, std::string_view name) {
  for (NamedShape& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw InternalError("no such tensor in the test", std::string(name));
}

TEST(Gpt2Tensors, CountTheParametersOfThePublishedModels) {
  const auto parameters = [](int64_t layers, int64_t width) {
    int64_t sum = 0;
    for (const auto& [name, shape] : gpt2_tensors({layers, width, 1, 1024, 50257})) {
      sum += shape.elements();
    }
    return sum;
  };
  EXPECT_EQ(parameters(12, 768), 124439808);
  EXPECT_EQ(parameters(24, 1024), 354823168);
  EXPECT_EQ(parameters(36, 1280), 774030080);
  EXPECT_EQ(parameters(48, 1600), 1557611200);
}

TEST(GoldenFolder, IsReadWithoutPrefixAndHoldsTogether) {
  const HuggingFaceFolder folder(kGolden);
  EXPECT_EQ(folder.config(), (Gpt2Config{2, 32, 2, 16, 61, 1e-5}));
  EXPECT_EQ(folder.shape("h.1.attn.c_attn.weight"), (Shape{32, 96}));
  EXPECT_FALSE(folder.has("transformer.wte.weight"));
  std::vector<double> as_double(32);
  folder.read("h.0.ln_1.weight", 0, std::span(as_double));
  const auto as_float = all_of(folder, "h.0.ln_1.weight");
  EXPECT_EQ(as_double, std::vector<double>(as_float.begin(), as_float.end()));

  const SafetensorsFile golden(kGolden + "/golden.safetensors");
  for (const auto& [name, shape] : gpt2_tensors(folder.config())) {
    EXPECT_EQ(golden.shape("grad." + name), shape);
    EXPECT_EQ(golden.shape("update." + name), shape);
  }
}

TEST(GoldenFolder, LossesFollowFromLogits) {
  const SafetensorsFile golden(kGolden + "/golden.safetensors");
  ASSERT_EQ(golden.shape("logits"), (Shape{3, 16, 61}));
  std::vector<double> targets(48), losses(48), logits(61), loss(1);
  golden.read("targets", 0, std::span(targets));  // of batch 0
  golden.read("token_loss", 0, std::span(losses));
  golden.read("loss", 0, std::span(loss));
  double sum = 0.0;
  for (int64_t row = 0; row < 48; ++row) {
    golden.read("logits", row * 61, std::span(logits));
    double exponentials = 0.0;
    for (double logit : logits) exponentials += std::exp(logit);
    const auto at = static_cast<size_t>(row);
    const double expected = std::log(exponentials) - logits[static_cast<size_t>(targets[at])];
    EXPECT_NEAR(losses[at], expected, 1e-13);
    sum += expected;
  }
  EXPECT_NEAR(loss[0], sum / 48.0, 1e-13);
}

TEST_F(HuggingFaceTest, NamesWithOrWithoutPrefixReadTheSame) {
  const HuggingFaceFolder plain(folder_with([](auto&) {}));
  const HuggingFaceFolder prefixed(folder_with([](auto& tensors) {
    for (auto& tensor : tensors) tensor.name = "transformer." + tensor.name;
  }));
  const auto tensors = gpt2_tensors(kTiny);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, shape] = tensors[i];
    EXPECT_EQ(plain.shape(name), shape);
    EXPECT_EQ(all_of(plain, name), values_of(i, shape));
    EXPECT_EQ(all_of(prefixed, name), values_of(i, shape));
  }
  expect_refused(folder_with([](auto& t) {
                   t.push_back({"transformer.ln_f.bias", {6}});
                 }),
                 {"model.safetensors", "ln_f.bias", "stands in"});
}

TEST_F(HuggingFaceTest, BuffersAreLeftOut) {
  const HuggingFaceFolder folder(folder_with([](auto& tensors) {
    tensors.push_back({"h.0.attn.bias", {1, 1, 5, 5}});
    tensors.push_back({"transformer.h.1.attn.bias", {1, 1, 5, 5}});
    tensors.push_back({"h.1.attn.masked_bias", {}});
  }));
  EXPECT_FALSE(folder.has("h.0.attn.bias"));
  EXPECT_FALSE(folder.has("h.1.attn.masked_bias"));
  EXPECT_TRUE(folder.has("h.0.attn.c_attn.bias"));
}

TEST_F(HuggingFaceTest, AHeadIsAcceptedOnlyWhereItRepeatsTheEmbedding) {
  const auto head_last = [](auto& tensors) { tensors.push_back({"lm_head.weight", {7, 6}}); };
  // Its values differ: those of tensor 28 instead of tensor 0.
  expect_refused(folder_with(head_last), {"'lm_head.weight' [7,6] differs", "tied"});
  const std::string folder = folder_with(head_last);
  const SafetensorsFile source(folder + "/model.safetensors");
  std::vector<SafetensorsSpec> specs;
  for (const auto& [name, tensor] : source.tensors()) {
    specs.push_back({name, DType::kF32, tensor.shape});
  }
  SafetensorsWriter writer(folder + "/model.safetensors", specs);
  for (const auto& spec : specs) {
    writer.append(spec.name,
                  all_of(source, spec.name == "lm_head.weight" ? "wte.weight" : spec.name));
  }
  writer.finish();
  EXPECT_FALSE(HuggingFaceFolder(folder).has("lm_head.weight"));
}

TEST_F(HuggingFaceTest, MissingForeignAndMisshapenTensorsAreNamed) {
  expect_refused(folder_with([](auto& t) { find(t, "h.1.mlp.c_fc.bias").name = "h.1.mlp.c_fc.b"; }),
                 {"'h.1.mlp.c_fc.bias' [24] is missing"});
  expect_refused(folder_with([](auto& t) {
                   find(t, "h.1.attn.c_attn.weight").shape = {18, 6};
                 }),
                 {"model.safetensors", "'h.1.attn.c_attn.weight' is [18,6]", "asks for [6,18]"});
  expect_refused(folder_with([](auto& t) {
                   t.push_back({"h.2.ln_1.bias", {6}});
                 }),
                 {"'h.2.ln_1.bias' [6] is no part of the model"});
  expect_refused(folder_with([](auto& t) {
                   t.push_back({"score.weight", {2, 6}});
                 }),
                 {"'score.weight' [2,6]"});
  expect_refused(root_.at("none"), {"no such folder"});
  const std::string folder = folder_with([](auto&) {});
  fs::remove(folder + "/model.safetensors");
  expect_refused(folder, {"neither model.safetensors nor"});
}

TEST_F(HuggingFaceTest, ConfigurationsWeCannotComputeAreRefused) {
  const auto expect_field = [&](const json& patch, std::initializer_list<std::string> parts) {
    expect_refused(folder_with([](auto&) {}, patch), parts);
  };
  expect_field({{"activation_function", "relu"}},
               {"config.json: activation_function", "\"relu\"", "allowed: \"gelu_new\""});
  expect_field({{"architectures", {"LlamaForCausalLM"}}}, {"architectures", "GPT2LMHeadModel"});
  expect_field({{"model_type", "gptj"}}, {"model_type"});
  expect_field({{"tie_word_embeddings", false}}, {"tie_word_embeddings", "allowed: true"});
  expect_field({{"scale_attn_by_inverse_layer_idx", true}}, {"scale_attn_by_inverse_layer_idx"});
  expect_field({{"n_inner", 25}}, {"n_inner", "allowed: 24"});
  expect_field({{"n_layer", nullptr}}, {"n_layer", "missing"});
  expect_field({{"n_head", 4}}, {"n_head", "4 does not divide n_embd"});
  expect_field({{"n_embd", 0}}, {"n_embd"});
  expect_field({{"n_embd", "six"}}, {"n_embd"});
  expect_field({{"vocab_size", 1e30}}, {"vocab_size"});
  expect_field({{"layer_norm_epsilon", -1.0}}, {"layer_norm_epsilon"});
  expect_field({{"n_positions", 4}}, {"'wpe.weight' is [5,6], config.json asks for [4,6]"});
  const auto config = [&](const json& patch) {
    return HuggingFaceFolder(folder_with([](auto&) {}, patch)).config();
  };
  EXPECT_EQ(config({{"n_positions", nullptr}}), kTiny);  // n_ctx says it
  EXPECT_EQ(config({{"activation_function", nullptr}, {"n_inner", 24}}), kTiny);
  EXPECT_EQ(config({{"layer_norm_epsilon", 1e-6}}).layer_norm_epsilon, 1e-6);
  const std::string folder = folder_with([](auto&) {});
  root_.write(fs::path(folder).filename().string() + "/config.json", "{\"n_layer\": }");
  expect_refused(folder, {"config.json: byte 13: not JSON"});
}

TEST_F(HuggingFaceTest, ShardsAreReadThroughTheirIndex) {
  const std::string folder = folder_with([](auto&) {});
  fs::remove(folder + "/model.safetensors");
  auto tensors = gpt2_tensors(kTiny);
  json map;
  std::vector<NamedShape> halves[2];
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string name = "transformer." + tensors[i].name;
    halves[i % 2].push_back({name, tensors[i].shape});
    map[name] = "part-" + std::to_string(i % 2);
  }
  write_tensors(folder + "/part-0", halves[0]);
  write_tensors(folder + "/part-1", halves[1]);
  const std::string index = fs::path(folder).filename().string() + "/model.safetensors.index.json";
  const auto write_index = [&](const json& weight_map) {
    root_.write(index, json{{"metadata", json::object()}, {"weight_map", weight_map}}.dump());
  };
  write_index(map);
  const HuggingFaceFolder sharded(folder);
  EXPECT_EQ(all_of(sharded, "wpe.weight"), values_of(0, {5, 6}));
  EXPECT_EQ(all_of(sharded, "ln_f.bias"), values_of(halves[1].size() - 1, {6}));

  json wrong = map;
  wrong["transformer.wte.weight"] = "part-1";
  write_index(wrong);
  expect_refused(folder, {"index.json", "no tensor 'transformer.wte.weight' in part-1"});
  wrong["transformer.wte.weight"] = "../part-0";
  write_index(wrong);
  expect_refused(folder, {"index.json", "transformer.wte.weight"});
  root_.write(index, "{}");
  expect_refused(folder, {"index.json", "weight_map"});
  write_index(map);
  fs::remove(folder + "/part-1");
  expect_refused(folder, {"part-1", "No such file"});
}

void export_to(const std::string& folder, const WeightSource& source, const Gpt2Config& config) {
  HuggingFaceWriter writer(folder, config);
  for (const auto& [name, shape] : gpt2_tensors(config)) writer.append(name, all_of(source, name));
  writer.finish();
}

TEST_F(HuggingFaceTest, ExportOfTheGoldenFolderIsByteEqualToTransformers) {
  const HuggingFaceFolder golden(kGolden);
  export_to(root_.at("out"), golden, golden.config());
  // transformers' own file of the same weights: the format leaves no freedom that we use otherwise.
  EXPECT_EQ(contents_of(root_.at("out/model.safetensors")),
            contents_of(kGolden + "/model.safetensors"));
  EXPECT_EQ(HuggingFaceFolder(root_.at("out")).config(), golden.config());
  // Every field that transformers writes with another value would change the model.
  const json ours = json::parse(contents_of(root_.at("out/config.json")));
  const json theirs = json::parse(contents_of(kGolden + "/config.json"));
  for (const auto& [field, value] : theirs.items()) {
    if (ours.contains(field)) {
      EXPECT_EQ(ours[field], value) << field;
    }
  }
}

TEST_F(HuggingFaceTest, ExportReplacesAnEarlierOneAndTouchesNothingElse) {
  const HuggingFaceFolder golden(kGolden);
  export_to(root_.at("out"), golden, golden.config());
  const std::string first = contents_of(root_.at("out/model.safetensors"));
  export_to(root_.at("out"), golden, golden.config());
  EXPECT_EQ(contents_of(root_.at("out/model.safetensors")), first);
  { HuggingFaceWriter unfinished(root_.at("out"), kTiny); }
  EXPECT_EQ(HuggingFaceFolder(root_.at("out")).config(), golden.config());
  { HuggingFaceWriter unfinished(root_.at("new"), kTiny); }
  EXPECT_FALSE(fs::exists(root_.at("new")));
  root_.write("out/model.safetensors.index.json", "{}");
  expect_input_error([&] { HuggingFaceWriter(root_.at("out"), kTiny); },
                     {root_.at("out"), "model.safetensors.index.json"});
  root_.write("file", "");
  expect_input_error([&] { HuggingFaceWriter(root_.at("file"), kTiny); }, {root_.at("file")});
}

}  // namespace
}  // namespace memwall
