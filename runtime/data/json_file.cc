#include "runtime/data/json_file.h"

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "runtime/data/mapped_file.h"

namespace memwall {
namespace {
constexpr const char* kRemedy = "bring the file back as its maker wrote it";
}  // namespace

nlohmann::json read_json_file(const std::string& path) {
  const MappedFile file(path);
  const auto* text = reinterpret_cast<const char*>(file.bytes().data());
  try {
    auto contents = nlohmann::json::parse(text, text + file.bytes().size());
    if (!contents.is_object()) throw InputError("not a JSON object", path, kRemedy);
    return contents;
  } catch (const nlohmann::json::parse_error& error) {
    throw InputError("not JSON", fmt::format("{}: byte {}", path, error.byte), kRemedy);
  }
}

}  // namespace memwall
