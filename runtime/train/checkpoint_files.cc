#include "runtime/train/checkpoint_files.h"

#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string_view>
#include <system_error>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"
#include "runtime/data/atomic_file.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kChecksumPrefix = "# xxh3 ";
constexpr std::string_view kSectionNames[] = {"parameters", "moment1", "moment2"};

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw InputError("damaged checkpoint: " + what, path,
                   "remove its folder to go on from an older one");
}

// Where the manifest's text is not what it should be, quietly.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber, const std::string& text) override {
    if (message.empty()) message = fmt::format("line {}: {}", line + 1, text);
  }
  std::string message;
};

std::string checksum_line(std::string_view text) {
  return std::string(kChecksumPrefix) + hash_hex(hash_text(text)) + "\n";
}

void check_consistent(const Manifest& manifest, const std::string& path) {
  if (manifest.ranks() < 1 || manifest.files_size() != manifest.ranks()) {
    refuse(path, "it does not name one file for each rank");
  }
  const auto dtype = parse_dtype(manifest.dtype());
  if (dtype != DType::kF32 && dtype != DType::kF64) {
    refuse(path, fmt::format("dtype '{}'", manifest.dtype()));
  }
  if (sections_of_unit(manifest) > std::size(kSectionNames)) {
    refuse(path, fmt::format("{} moments a parameter", manifest.moments()));
  }
  for (const auto& unit : manifest.units()) {
    if (unit.padded_elements() < 0 || unit.padded_elements() % manifest.ranks() != 0) {
      refuse(path, fmt::format("unit '{}' has no equal shards", unit.name()));
    }
    for (const auto& tensor : unit.tensors()) {
      int64_t room = unit.padded_elements() - tensor.offset();
      bool fits = tensor.offset() >= 0 && tensor.shape_size() <= Shape::kMaxRank;
      for (int64_t dim : tensor.shape()) {
        fits = fits && dim > 0 && room >= dim;
        if (fits) room /= dim;
      }
      if (!fits) refuse(path, fmt::format("tensor '{}' leaves its unit", tensor.name()));
    }
  }
}

}  // namespace

size_t sections_of_unit(const Manifest& manifest) {
  return 1 + size_t{manifest.moments()};
}

std::string step_folder_name(int64_t step) {
  return fmt::format("{}{:08d}", kStepPrefix, step);
}
std::string rank_file_name(int64_t rank) {
  return fmt::format("rank-{:05d}.bin", rank);
}
std::string manifest_path(const std::string& folder) {
  return folder + "/manifest.textproto";
}

std::vector<int64_t> checkpoint_steps(const std::string& checkpoints) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (auto it = fs::directory_iterator(checkpoints, error); !error && it != fs::end(it);
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kStepPrefix)) continue;
    int64_t step = 0;
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kStepPrefix.size(), end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end) steps.push_back(step);
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw Error("cannot list: " + error.message(), checkpoints);
  }
  std::sort(steps.begin(), steps.end(), std::greater<>());
  return steps;
}

void write_manifest(const std::string& folder, const Manifest& manifest) {
  std::string text;
  check(google::protobuf::TextFormat::PrintToString(manifest, &text),
        "a manifest cannot be printed");
  write_file_atomically(manifest_path(folder), text + checksum_line(text));
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = manifest_path(folder);
  const MappedFile map(path);
  std::string_view text(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size());
  const size_t last_line = text.rfind(kChecksumPrefix);
  if (last_line == std::string_view::npos ||
      text.substr(last_line) != checksum_line(text.substr(0, last_line))) {
    refuse(path, "the manifest does not match its checksum");
  }
  Manifest manifest;
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.AllowUnknownField(true);  // of a later format, which is refused below
  if (!parser.ParseFromString(std::string(text), &manifest)) refuse(path, error.message);
  if (manifest.format() != kCheckpointFormat) {
    throw InputError(fmt::format("a checkpoint of format {}; this version reads {}",
                                 manifest.format(), kCheckpointFormat),
                     path);
  }
  check_consistent(manifest, path);
  return manifest;
}

DType dtype_of(const Manifest& manifest) {
  return *parse_dtype(manifest.dtype());
}

void check_file_sizes(const std::string& folder, const Manifest& manifest) {
  for (int64_t rank = 0; rank < manifest.ranks(); ++rank) {
    const std::string path = folder + "/" + rank_file_name(rank);
    const int64_t expected = manifest.files(static_cast<int>(rank)).bytes();
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    if (error) refuse(path, error.message());
    if (static_cast<int64_t>(bytes) != expected) {
      refuse(path, fmt::format("{} bytes, the manifest says {}", bytes, expected));
    }
  }
}

FileLayout::FileLayout(const Manifest& manifest)
    : unit_sections_(sections_of_unit(manifest)), offsets_{0} {
  for (const auto& unit : manifest.units()) {
    const int64_t shard = unit.padded_elements() / manifest.ranks();
    shard_bytes_.push_back(shard * size_of(dtype_of(manifest)));
    offsets_.push_back(offsets_.back() +
                       static_cast<int64_t>(unit_sections_) * shard_bytes_.back());
  }
}

RankFile::RankFile(const std::string& folder, const Manifest& manifest, int64_t rank)
    : manifest_(manifest),
      layout_(manifest),
      map_(folder + "/" + rank_file_name(rank)),
      compared_(std::make_unique<std::once_flag[]>(layout_.sections())) {
  const auto& listed = manifest.files(static_cast<int>(rank));
  const auto bytes = static_cast<int64_t>(map_.bytes().size());
  if (bytes != listed.bytes() || bytes != layout_.file_bytes()) {
    refuse(map_.path(), fmt::format("{} bytes, the manifest says {}", bytes, listed.bytes()));
  }
  const auto table = map_.bytes().subspan(static_cast<size_t>(layout_.table_offset()));
  if (hash_hex(hash_bytes(table.data(), table.size())) != listed.checksum()) {
    refuse(map_.path(), "its checksums do not match the manifest");
  }
}

std::span<const std::byte> RankFile::section(size_t index) const {
  const auto bytes = map_.bytes().subspan(static_cast<size_t>(layout_.offset(index)),
                                          static_cast<size_t>(layout_.bytes(index)));
  std::call_once(compared_[index], [&] {
    uint64_t stored = 0;
    const auto at = static_cast<size_t>(layout_.table_offset()) + index * sizeof(stored);
    std::memcpy(&stored, map_.bytes().data() + at, sizeof(stored));
    if (hash_bytes(bytes.data(), bytes.size()) != stored) {
      refuse(map_.path(),
             fmt::format(
                 "{} of unit '{}' do not match their checksum",
                 kSectionNames[index % sections_of_unit(manifest_)],
                 manifest_.units(static_cast<int>(index / sections_of_unit(manifest_))).name()));
    }
  });
  return bytes;
}

}  // namespace memwall
