#include "runtime/data/token_source.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"
#include "runtime/data/utf8.h"

namespace memwall {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr int64_t kLlmcHeaderBytes = 1024;
constexpr int32_t kLlmcMagic = 20240520;      // GPT-2: uint16 tokens
constexpr int32_t kLlmcMagicWide = 20240801;  // Llama 3: uint32 tokens
constexpr int64_t kTextTokenBytes = 1, kFileTokenBytes = 2;

// A mapped token need not be aligned: the mapping is, but nothing promises a header's size.
template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// Position of the first id >= limit, or -1. The maximum of a block vectorises; a search does not.
template <class T>
int64_t find_at_least(const std::byte* data, int64_t count, int64_t limit) {
  constexpr int64_t kBlock = 4096;
  constexpr int64_t kBytes = sizeof(T);
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    T largest = 0;
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, load<T>(data + i * kBytes));
    if (largest < limit) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (load<T>(data + i * kBytes) >= limit) return i;
    }
  }
  return -1;
}

template <class T>
void widen(const std::byte* data, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = load<T>(data + i * sizeof(T));
}

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_NOSORT | GLOB_ERR, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status == GLOB_NOMATCH) throw InputError("no file matches", pattern);
  if (status != 0) throw InputError("cannot search for files", pattern);
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

TokenSource TokenSource::from_text(const std::string& path, const TokenSourceOptions& options) {
  File file{.map = MappedFile(path), .token_bytes = kTextTokenBytes};
  file.tokens = static_cast<int64_t>(file.map.bytes().size());
  if (file.tokens == 0) throw InputError("the text is empty", path);
  if (options.verify) {
    if (const auto at = find_invalid_utf8(file.map.bytes())) {
      throw InputError("not UTF-8", fmt::format("{}: byte {}", path, *at));
    }
    check_ids(file, options.vocabulary);
  }
  TokenSource source;
  source.append(std::move(file));
  return source;
}

TokenSource TokenSource::from_token_files(std::span<const std::string> patterns,
                                          const TokenSourceOptions& options) {
  check(!patterns.empty(), "token files need a pattern");
  TokenSource source;
  for (const std::string& pattern : patterns) {
    for (const std::string& path : matches_of(pattern)) {
      File file = open_token_file(path);
      if (options.verify) check_ids(file, options.vocabulary);
      source.append(std::move(file));
    }
  }
  return source;
}

TokenSource::File TokenSource::open_token_file(const std::string& path) {
  File file{.map = MappedFile(path), .token_bytes = kFileTokenBytes};
  const auto bytes = file.map.bytes();
  const auto size = static_cast<int64_t>(bytes.size());
  if (size == 0) throw InputError("the token file is empty", path);
  if (size % kFileTokenBytes != 0) {
    throw InputError(fmt::format("{} bytes are no whole number of 16-bit tokens", size), path);
  }
  std::array<int32_t, 3> header{};  // magic, version, tokens
  if (size >= kLlmcHeaderBytes) std::memcpy(header.data(), bytes.data(), sizeof(header));
  const auto [magic, version, tokens] = header;
  if (magic == kLlmcMagicWide && size == kLlmcHeaderBytes + int64_t{4} * tokens) {
    throw InputError("an llm.c file of 32-bit tokens", path, "16-bit tokens are supported");
  }
  if (magic == kLlmcMagic) {
    if (version != 1) {
      throw InputError(fmt::format("an llm.c token file of version {}", version), path,
                       "version 1 is supported");
    }
    file.header_bytes = kLlmcHeaderBytes;
  }
  file.tokens = (size - file.header_bytes) / kFileTokenBytes;
  if (magic == kLlmcMagic && file.tokens != tokens) {
    throw InputError(
        fmt::format("the llm.c header says {} tokens, the file holds {}", tokens, file.tokens),
        path);
  }
  if (file.tokens == 0) throw InputError("the token file is empty", path);
  return file;
}

void TokenSource::check_ids(const File& file, int64_t vocabulary) {
  const std::byte* data = file.map.bytes().data() + file.header_bytes;
  const bool wide = file.token_bytes == kFileTokenBytes;
  if (vocabulary > (wide ? UINT16_MAX : UINT8_MAX)) return;
  const int64_t at = wide ? find_at_least<uint16_t>(data, file.tokens, vocabulary)
                          : find_at_least<uint8_t>(data, file.tokens, vocabulary);
  if (at < 0) return;
  const int64_t byte = at * file.token_bytes;
  const int id = wide ? load<uint16_t>(data + byte) : load<uint8_t>(data + byte);
  throw InputError(
      fmt::format("id {} is beyond the vocabulary of {}", id, vocabulary),
      fmt::format("{}: token {} (byte {})", file.map.path(), at, file.header_bytes + byte));
}

void TokenSource::append(File file) {
  file.start = size_;
  size_ += file.tokens;
  files_.push_back(std::move(file));
}

void TokenSource::read(int64_t first, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  check(first >= 0 && first <= size_ - count, "tokens outside the source");
  auto file = std::upper_bound(files_.begin(), files_.end(), first,
                               [](int64_t at, const File& f) { return at < f.start; });
  --file;
  while (!out.empty()) {
    const int64_t skipped = first - file->start;
    const auto part = out.first(
        static_cast<size_t>(std::min(file->tokens - skipped, static_cast<int64_t>(out.size()))));
    const std::byte* data =
        file->map.bytes().data() + file->header_bytes + skipped * file->token_bytes;
    file->token_bytes == kFileTokenBytes ? widen<uint16_t>(data, part) : widen<uint8_t>(data, part);
    out = out.subspan(part.size());
    first += static_cast<int64_t>(part.size());
    ++file;
  }
}

uint64_t TokenSource::fingerprint() const {
  constexpr size_t kSamples = 64, kSampleBytes = 4096;
  uint64_t hash = 0;
  for (const File& file : files_) {
    const auto bytes = file.map.bytes();
    const uint64_t size = bytes.size();
    hash = hash_bytes(&size, sizeof(size), hash);
    const size_t length = std::min(bytes.size(), kSampleBytes);
    for (size_t i = 0; i < kSamples; ++i) {  // the first and the last bytes are among them
      const size_t at = (bytes.size() - length) / (kSamples - 1) * i;
      const size_t begin = i + 1 == kSamples ? bytes.size() - length : at;
      hash = hash_bytes(bytes.data() + begin, length, hash);
    }
  }
  return hash;
}

void TokenRange::read(int64_t position, std::span<int32_t> out) const {
  check(position >= 0 && position <= size - static_cast<int64_t>(out.size()),
        "tokens outside the range");
  source->read(first + position, out);
}

}  // namespace memwall
