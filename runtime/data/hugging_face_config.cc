// config.json of GPT2LMHeadModel, read and written.
#include "runtime/data/hugging_face_config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "runtime/base/error.h"
#include "runtime/data/hugging_face.h"
#include "runtime/data/json_file.h"

namespace memwall {
namespace {

using nlohmann::json;

class ConfigReader {
 public:
  explicit ConfigReader(const std::string& path) : path_(path), fields_(read_json_file(path)) {}

  [[noreturn]] void refuse(const std::string& field, const std::string& what,
                           const std::string& allowed) const {
    throw InputError(what, path_ + ": " + field, "allowed: " + allowed);
  }

  // Absent and null mean the same: GPT2Config's default.
  const json* find(const std::string& field) const {
    const auto found = fields_.find(field);
    return found == fields_.end() || found->is_null() ? nullptr : &*found;
  }

  // The limits keep the list of tensors short and the product of two sizes far below 2^63.
  int64_t positive(const std::string& field, int64_t limit = int64_t{1} << 28) const {
    const json* value = find(field);
    if (value == nullptr) refuse(field, "missing", "a positive integer");
    if (!value->is_number_integer() || value->get<double>() < 1 ||
        value->get<double>() > static_cast<double>(limit)) {
      refuse(field, value->dump() + " is no size", fmt::format("1 to {}", limit));
    }
    return value->get<int64_t>();
  }

  // Fields that change the arithmetic may have one value only.
  void require(const std::string& field, const json& allowed) const {
    const json* value = find(field);
    if (value != nullptr && *value != allowed) {
      refuse(field, value->dump() + " is not supported", allowed.dump());
    }
  }

  double layer_norm_epsilon() const {
    const json* value = find("layer_norm_epsilon");
    if (value == nullptr) return Gpt2Config{}.layer_norm_epsilon;
    if (!value->is_number() || !(value->get<double>() > 0.0)) {
      refuse("layer_norm_epsilon", value->dump(), "a positive number");
    }
    return value->get<double>();
  }

  void check_architecture() const {
    static const std::set<std::string> kKnown{"GPT2LMHeadModel", "GPT2Model"};
    const json* names = find("architectures");
    if (names == nullptr) return;
    const bool known = names->is_array() && names->size() == 1 && names->front().is_string() &&
                       kKnown.contains(names->front().get<std::string>());
    if (!known) {
      refuse("architectures", names->dump() + " is not supported",
             R"(["GPT2LMHeadModel"] or ["GPT2Model"])");
    }
  }

 private:
  std::string path_;
  json fields_;
};

}  // namespace

Gpt2Config read_gpt2_config(const std::string& path) {
  const ConfigReader reader(path);
  reader.check_architecture();
  reader.require("model_type", "gpt2");
  reader.require("activation_function", "gelu_new");
  reader.require("tie_word_embeddings", true);
  reader.require("scale_attn_weights", true);
  reader.require("scale_attn_by_inverse_layer_idx", false);
  reader.require("add_cross_attention", false);

  Gpt2Config config;
  config.num_layers = reader.positive("n_layer", 1 << 16);
  config.hidden_size = reader.positive("n_embd");
  config.num_heads = reader.positive("n_head");
  config.vocab_size = reader.positive("vocab_size");
  const bool old = reader.find("n_positions") == nullptr && reader.find("n_ctx") != nullptr;
  config.context_length = reader.positive(old ? "n_ctx" : "n_positions");
  config.layer_norm_epsilon = reader.layer_norm_epsilon();
  reader.require("n_inner", 4 * config.hidden_size);
  if (config.hidden_size % config.num_heads != 0) {
    reader.refuse("n_head", fmt::format("{} does not divide n_embd", config.num_heads),
                  fmt::format("a divisor of {}", config.hidden_size));
  }
  return config;
}

std::string gpt2_config_json(const Gpt2Config& config) {
  // GPT2Config's default end-of-text token belongs to OpenAI's vocabulary of 50257.
  constexpr int64_t kOpenAiVocabulary = 50257;
  const json end_of_text =
      config.vocab_size == kOpenAiVocabulary ? json(kOpenAiVocabulary - 1) : json(nullptr);
  const json fields{
      {"activation_function", "gelu_new"},
      {"architectures", {"GPT2LMHeadModel"}},
      // Dropout is a matter of a run, not of the weights.
      {"attn_pdrop", 0.0},
      {"bos_token_id", end_of_text},
      {"embd_pdrop", 0.0},
      {"eos_token_id", end_of_text},
      {"initializer_range", 0.02},
      {"layer_norm_epsilon", config.layer_norm_epsilon},
      {"model_type", "gpt2"},
      {"n_ctx", config.context_length},
      {"n_embd", config.hidden_size},
      {"n_head", config.num_heads},
      {"n_inner", nullptr},
      {"n_layer", config.num_layers},
      {"n_positions", config.context_length},
      {"resid_pdrop", 0.0},
      {"scale_attn_by_inverse_layer_idx", false},
      {"scale_attn_weights", true},
      {"tie_word_embeddings", true},
      {"torch_dtype", "float32"},
      {"vocab_size", config.vocab_size},
  };
  return fields.dump(2) + "\n";
}

}  // namespace memwall
