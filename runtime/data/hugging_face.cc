#include "runtime/data/hugging_face.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/base/error.h"
#include "runtime/data/json_file.h"

namespace memwall {
namespace {

constexpr const char* kRemedy = "bring the folder back whole, or save the model anew";

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kPrefix = "transformer.";
constexpr const char* kHead = "lm_head.weight";

std::string without_prefix(std::string_view name) {
  return std::string(name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name);
}

// Causal masks that older versions of transformers saved.
bool is_mask(const std::string& name) {
  return name.starts_with("h.") &&
         (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
}

}  // namespace

std::vector<NamedShape> gpt2_tensors(const Gpt2Config& config) {
  const int64_t d = config.hidden_size;
  std::vector<NamedShape> out{{"wte.weight", {config.vocab_size, d}},
                              {"wpe.weight", {config.context_length, d}}};
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const auto add = [&](std::string_view name, Shape weight, int64_t bias) {
      out.push_back({fmt::format("h.{}.{}.weight", layer, name), weight});
      out.push_back({fmt::format("h.{}.{}.bias", layer, name), {bias}});
    };
    add("ln_1", {d}, d);
    add("attn.c_attn", {d, 3 * d}, 3 * d);
    add("attn.c_proj", {d, d}, d);
    add("ln_2", {d}, d);
    add("mlp.c_fc", {d, 4 * d}, 4 * d);
    add("mlp.c_proj", {4 * d, d}, d);
  }
  out.push_back({"ln_f.weight", {d}});
  out.push_back({"ln_f.bias", {d}});
  return out;
}

HuggingFaceFolder::HuggingFaceFolder(const std::string& folder) : folder_(folder) {
  if (!fs::is_directory(folder))
    throw InputError("no such folder", folder,
                     "look at the path: a Hugging Face GPT-2 folder is due");
  const auto file = [&](const char* name) { return (fs::path(folder) / name).string(); };
  config_ = read_gpt2_config(file("config.json"));
  // transformers, too, prefers the single file.
  if (fs::exists(file("model.safetensors"))) {
    open_file(file("model.safetensors"));
  } else if (fs::exists(file("model.safetensors.index.json"))) {
    open_shards(file("model.safetensors.index.json"));
  } else {
    throw InputError("neither model.safetensors nor model.safetensors.index.json", folder,
                     "other formats: convert with save_pretrained(safe_serialization=True)");
  }
  drop_what_is_no_parameter();
  check_tensors();
}

void HuggingFaceFolder::open_file(const std::string& path) {
  const auto& file = files_.emplace_back(std::make_unique<SafetensorsFile>(path));
  for (const auto& [name, tensor] : file->tensors()) {
    const auto [at, inserted] = places_.emplace(without_prefix(name), Place{file.get(), name});
    if (inserted) continue;
    throw InputError(fmt::format("tensor '{}' stands in {} as well, as '{}'", name,
                                 at->second.file->path(), at->second.name),
                     path, kRemedy);
  }
}

// {"weight_map": {tensor: file in the same folder}}
void HuggingFaceFolder::open_shards(const std::string& index) {
  const json contents = read_json_file(index);
  const auto map = contents.find("weight_map");
  if (map == contents.end() || !map->is_object())
    throw InputError("weight_map is due", index, kRemedy);
  std::map<std::string, std::string> shards;  // by tensor
  std::set<std::string> names;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || fs::path(shard.get<std::string>()).has_parent_path()) {
      throw InputError(fmt::format("weight_map: {}: no name of a file in the folder", tensor),
                       index, kRemedy);
    }
    shards[tensor] = *names.insert(shard.get<std::string>()).first;
  }
  for (const std::string& name : names) open_file((fs::path(folder_) / name).string());
  for (const auto& [tensor, shard] : shards) {
    const auto found = places_.find(without_prefix(tensor));
    if (found == places_.end() || fs::path(found->second.file->path()).filename() != shard) {
      throw InputError(fmt::format("weight_map: no tensor '{}' in {}", tensor, shard), index,
                       kRemedy);
    }
  }
}

void HuggingFaceFolder::drop_what_is_no_parameter() {
  std::erase_if(places_, [](const auto& entry) { return is_mask(entry.first); });
  const auto head = places_.find(kHead);
  const auto table = places_.find("wte.weight");
  if (head == places_.end() || table == places_.end()) return;
  const auto& a = head->second.file->tensor(head->second.name);
  const auto& b = table->second.file->tensor(table->second.name);
  if (a.type != b.type || a.shape != b.shape || !std::ranges::equal(a.bytes, b.bytes)) {
    throw InputError(fmt::format("tensor '{}' {} differs from wte.weight {}", kHead, a.shape.text(),
                                 b.shape.text()),
                     head->second.file->path(), "only tied heads are supported");
  }
  places_.erase(head);
}

void HuggingFaceFolder::check_tensors() const {
  std::set<std::string> expected;
  for (const NamedShape& due : gpt2_tensors(config_)) {
    expected.insert(due.name);
    const auto found = places_.find(due.name);
    if (found == places_.end()) {
      throw InputError(fmt::format("tensor '{}' {} is missing", due.name, due.shape.text()),
                       folder_, kRemedy);
    }
    const auto& [file, name] = found->second;
    const SafetensorsTensor& tensor = file->tensor(name);
    if (tensor.shape != due.shape) {
      throw InputError(fmt::format("tensor '{}' is {}, config.json asks for {}", name,
                                   tensor.shape.text(), due.shape.text()),
                       file->path(), "config.json and the weights must be of one model");
    }
    if (!is_floating(tensor.type)) {
      throw InputError(fmt::format("tensor '{}' is of no floating-point type", name), file->path(),
                       "save the model as F16, BF16, F32 or F64");
    }
  }
  for (const auto& [name, at] : places_) {
    if (expected.contains(name)) continue;
    throw InputError(
        fmt::format("tensor '{}' {} is no part of the model that config.json describes", at.name,
                    at.file->shape(at.name).text()),
        at.file->path(), "config.json and the weights must be of one model");
  }
}

const HuggingFaceFolder::Place& HuggingFaceFolder::place(std::string_view name) const {
  const auto found = places_.find(name);
  if (found == places_.end())
    throw InputError(fmt::format("no tensor '{}'", name), folder_, kRemedy);
  return found->second;
}

Shape HuggingFaceFolder::shape(std::string_view name) const {
  const Place& at = place(name);
  return at.file->shape(at.name);
}
void HuggingFaceFolder::read(std::string_view name, int64_t first, std::span<float> out) const {
  const Place& at = place(name);
  at.file->read(at.name, first, out);
}
void HuggingFaceFolder::read(std::string_view name, int64_t first, std::span<double> out) const {
  const Place& at = place(name);
  at.file->read(at.name, first, out);
}

}  // namespace memwall
