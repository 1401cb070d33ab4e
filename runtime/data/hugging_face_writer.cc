#include <filesystem>
#include <set>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/data/atomic_file.h"
#include "runtime/data/hugging_face.h"
#include "runtime/data/hugging_face_config.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kWeightsFile = "model.safetensors";

// An earlier export may be replaced; other weights in the folder would be mistaken for ours, and
// files that are not ours are not ours to mix with.
void check_folder(const std::string& folder) {
  const std::set<std::string> ours{kConfigFile, kWeightsFile, std::string(kWeightsFile) + ".tmp",
                                   std::string(kConfigFile) + ".tmp"};
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!ours.contains(name)) {
      throw InputError("the folder holds '" + name + "'", folder, "choose an empty or new folder");
    }
  }
  if (error)
    throw InputError("cannot read the folder: " + error.message(), folder,
                     "choose an empty or new folder");
}

std::string prefixed(std::string_view name) {
  return "transformer." + std::string(name);
}

std::vector<SafetensorsSpec> specs_of(const Gpt2Config& config) {
  std::vector<SafetensorsSpec> specs;
  for (const NamedShape& tensor : gpt2_tensors(config)) {
    specs.push_back({prefixed(tensor.name), DType::kF32, tensor.shape});
  }
  return specs;
}

}  // namespace

HuggingFaceWriter::HuggingFaceWriter(const std::string& folder, const Gpt2Config& config)
    : folder_(folder), config_(config) {
  std::error_code error;
  created_ = fs::create_directory(folder, error);
  if (error)
    throw InputError("cannot create the folder: " + error.message(), folder,
                     "the folder above it must exist and be writable");
  check_folder(folder);
  try {
    weights_ = std::make_unique<SafetensorsWriter>((fs::path(folder) / kWeightsFile).string(),
                                                   specs_of(config));
  } catch (...) {
    if (created_) fs::remove(folder, error);
    throw;
  }
}

HuggingFaceWriter::~HuggingFaceWriter() {
  const bool finished = weights_ == nullptr;
  weights_.reset();
  if (!created_ || finished) return;
  std::error_code ignored;  // the error that brought us here is the one to report
  fs::remove(fs::path(folder_) / kConfigFile, ignored);
  fs::remove(folder_, ignored);  // unless somebody else put files into it
}

void HuggingFaceWriter::append(std::string_view name, std::span<const float> values) {
  weights_->append(prefixed(name), values);
}
void HuggingFaceWriter::append(std::string_view name, std::span<const double> values) {
  weights_->append(prefixed(name), values);
}

// config.json comes first: weights in place then always have their description.
void HuggingFaceWriter::finish() {
  write_file_atomically((fs::path(folder_) / kConfigFile).string(), gpt2_config_json(config_));
  weights_->finish();
  weights_.reset();
}

}  // namespace memwall
