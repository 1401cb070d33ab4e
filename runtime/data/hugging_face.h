// GPT-2 folders of Hugging Face transformers (GPT2LMHeadModel): config.json beside
// model.safetensors, or beside its shards and model.safetensors.index.json.
//
// Memwall's tensor names are GPT2Model's: "wte.weight", "h.3.attn.c_attn.weight", "ln_f.bias".
// GPT2LMHeadModel puts "transformer." before them. Matrices of the blocks are (inputs, outputs).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/shape.h"
#include "runtime/data/safetensors.h"
#include "runtime/data/weight_source.h"

namespace memwall {

// What config.json says of the model's arithmetic. The rest of GPT-2 is fixed: tanh GELU, an inner
// width of 4 * hidden_size, scaled attention, tied head.
struct Gpt2Config {
  int64_t num_layers = 0;      // n_layer
  int64_t hidden_size = 0;     // n_embd
  int64_t num_heads = 0;       // n_head
  int64_t context_length = 0;  // n_positions, in old folders n_ctx
  int64_t vocab_size = 0;      // vocab_size
  double layer_norm_epsilon = 1e-5;
  bool operator==(const Gpt2Config&) const = default;
};

struct NamedShape {
  std::string name;
  Shape shape;
};
// Every parameter of the model, in its natural order: wte, wpe, h.0, h.1, ..., ln_f.
std::vector<NamedShape> gpt2_tensors(const Gpt2Config& config);

// InputError with file, field and the allowed values where a field is missing or asks for
// arithmetic that Memwall does not have.
Gpt2Config read_gpt2_config(const std::string& path);

// Opened, a folder is known to hold exactly the model's tensors. What is not a parameter is left
// out: the buffers attn.bias and attn.masked_bias, and an lm_head.weight that repeats wte.weight.
class HuggingFaceFolder : public WeightSource {
 public:
  // InputError: no folder, bad config.json, damaged files, and tensors that are missing, foreign,
  // doubled or of another shape.
  explicit HuggingFaceFolder(const std::string& folder);

  const Gpt2Config& config() const { return config_; }

  bool has(std::string_view name) const override { return places_.contains(name); }
  Shape shape(std::string_view name) const override;
  void read(std::string_view name, int64_t first, std::span<float> out) const override;
  void read(std::string_view name, int64_t first, std::span<double> out) const override;

 private:
  struct Place {
    const SafetensorsFile* file = nullptr;
    std::string name;  // in the file
  };
  void open_shards(const std::string& index);
  void open_file(const std::string& path);
  void drop_what_is_no_parameter();
  void check_tensors() const;
  const Place& place(std::string_view name) const;

  std::string folder_;
  Gpt2Config config_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place, std::less<>> places_;  // by Memwall's names
};

// Writes what GPT2LMHeadModel.from_pretrained loads. Equal weights give equal bytes. Without
// `finish` the folder is left as it was.
class HuggingFaceWriter {
 public:
  // The folder is made where missing. InputError where it holds anything but an earlier export.
  HuggingFaceWriter(const std::string& folder, const Gpt2Config& config);
  ~HuggingFaceWriter();
  HuggingFaceWriter(const HuggingFaceWriter&) = delete;
  HuggingFaceWriter& operator=(const HuggingFaceWriter&) = delete;

  // The next elements of a tensor of gpt2_tensors(config), stored in F32.
  void append(std::string_view name, std::span<const float> values);
  void append(std::string_view name, std::span<const double> values);
  void finish();

 private:
  std::string folder_;
  Gpt2Config config_;
  bool created_ = false;
  std::unique_ptr<SafetensorsWriter> weights_;
};

}  // namespace memwall
