#include "runtime/data/token_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "runtime/base/error.h"
#include "runtime/base/math.h"
#include "runtime/data/atomic_file.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokensAtOnce = int64_t{1} << 18;

// PREFIX_*.bin: what a pattern such as data/train_*.bin finds.
bool belongs_to(const std::string& name, const std::string& prefix) {
  return name.starts_with(prefix + '_') && name.ends_with(".bin");
}

std::vector<std::string> files_of(const std::string& folder,
                                  const std::vector<std::string>& prefixes) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    const bool is_ours = std::any_of(prefixes.begin(), prefixes.end(),
                                     [&](const auto& prefix) { return belongs_to(name, prefix); });
    if (is_ours) paths.push_back(at->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

template <class T>
void write_ids(AtomicFile& file, const TokenRange& range, int64_t first, int64_t count) {
  std::vector<int32_t> tokens;
  std::vector<T> ids;
  for (int64_t done = 0; done < count;) {
    tokens.resize(static_cast<size_t>(std::min(kTokensAtOnce, count - done)));
    range.read(first + done, tokens);
    ids.assign(tokens.begin(), tokens.end());
    file.write(kTokenHeaderBytes + done * static_cast<int64_t>(sizeof(T)),
               std::as_bytes(std::span<const T>(ids)));
    done += static_cast<int64_t>(tokens.size());
  }
}

void write_file(AtomicFile& file, const TokenFormat& format, const TokenRange& range, int64_t first,
                int64_t count) {
  file.reserve(kTokenHeaderBytes + count * format.token_bytes);
  std::array<int32_t, kTokenHeaderBytes / sizeof(int32_t)> header{};
  header[0] = format.magic;
  header[1] = format.version;
  header[2] = static_cast<int32_t>(count);
  file.write(0, std::as_bytes(std::span<const int32_t>(header)));
  format.token_bytes == 2 ? write_ids<uint16_t>(file, range, first, count)
                          : write_ids<uint32_t>(file, range, first, count);
  file.seal();
}

}  // namespace

void check_no_token_files(const std::string& folder, const std::vector<std::string>& prefixes) {
  const std::vector<std::string> there = files_of(folder, prefixes);
  if (there.empty()) return;
  throw InputError(fmt::format("{} token file{} there already", there.size(),
                               there.size() == 1 ? " is" : "s are"),
                   there.front(), "name another folder, or replace them by --overwrite");
}

std::vector<std::string> write_token_files(const std::vector<TokenPart>& parts,
                                           const TokenFilesSpec& spec) {
  check(spec.tokens_per_file > 0 && spec.tokens_per_file <= kMostTokensPerFile,
        "tokens_per_file is what a header can say");
  std::vector<std::string> prefixes;
  for (const TokenPart& part : parts) prefixes.push_back(part.prefix);
  if (!spec.overwrites) check_no_token_files(spec.folder, prefixes);
  std::error_code error;
  fs::create_directories(spec.folder, error);
  if (error) {
    throw InputError("cannot create the folder: " + error.message(), spec.folder,
                     "name a folder that can be made");
  }
  const TokenFormat& format = spec.narrow ? kNarrowTokens : kWideTokens;
  std::vector<std::string> paths;
  std::vector<std::unique_ptr<AtomicFile>> files;
  for (const TokenPart& part : parts) {
    for (int64_t first = 0; first < part.range.size; first += spec.tokens_per_file) {
      const auto number = first / spec.tokens_per_file;
      const fs::path path =
          fs::path(spec.folder) / fmt::format("{}_{:05}.bin", part.prefix, number);
      paths.push_back(path.string());
      files.push_back(std::make_unique<AtomicFile>(paths.back()));
      write_file(*files.back(), format, part.range, first,
                 std::min(spec.tokens_per_file, part.range.size - first));
    }
  }
  for (const std::string& old : files_of(spec.folder, prefixes)) {
    if (std::find(paths.begin(), paths.end(), old) == paths.end()) fs::remove(old);
  }
  for (const auto& file : files) file->commit();
  return paths;
}

}  // namespace memwall
