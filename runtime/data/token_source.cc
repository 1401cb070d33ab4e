#include "runtime/data/token_source.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"
#include "runtime/data/token_files.h"

namespace memwall {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr int64_t kTextTokenBytes = 1, kFileTokenBytes = 2;
constexpr const char* kAnew = "bring the file back whole, or write it anew: memwall tokenize";

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
    if (static_cast<int64_t>(largest) < limit) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (static_cast<int64_t>(load<T>(data + i * kBytes)) >= limit) return i;
    }
  }
  return -1;
}

template <class T>
void widen(const std::byte* data, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<int32_t>(load<T>(data + i * sizeof(T)));
  }
}

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_NOSORT | GLOB_ERR, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status == GLOB_NOMATCH) {
    throw InputError("no file matches", pattern,
                     "quote the pattern; a relative one counts from the working folder");
  }
  if (status != 0) {
    throw InputError("cannot search for files", pattern, "its folders must be readable");
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

TokenSource TokenSource::from_text(const std::string& path, const TokenSourceOptions& options) {
  File file{.map = MappedFile(path), .token_bytes = kTextTokenBytes};
  file.tokens = static_cast<int64_t>(file.map.bytes().size());
  if (file.tokens == 0) throw InputError("the text is empty", path, "name a text");
  if (options.verify) {
    check_utf8(file.map.bytes(), path);
    check_ids(file, options.vocabulary);
  }
  TokenSource source;
  source.append(std::move(file));
  return source;
}

TokenSource TokenSource::from_encoded(EncodedText text) {
  File file{.map = std::move(text.tokens), .token_bytes = text.token_bytes};
  file.tokens = static_cast<int64_t>(file.map.bytes().size()) / file.token_bytes;
  if (file.tokens == 0) throw InputError("the text has no tokens", "", "give more text");
  TokenSource source;
  source.tokenizer_fingerprint_ = text.tokenizer_fingerprint;
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
  if (size == 0) throw InputError("the token file is empty", path, kAnew);
  std::array<int32_t, 3> header{};  // magic, version, tokens
  if (size >= kTokenHeaderBytes) std::memcpy(header.data(), bytes.data(), sizeof(header));
  const auto [magic, version, tokens] = header;
  for (const TokenFormat& format : {kNarrowTokens, kWideTokens}) {
    if (magic != format.magic) continue;
    if (version != format.version) {
      throw InputError(fmt::format("an llm.c token file of version {}", version), path,
                       fmt::format("version {} is supported", format.version));
    }
    file.header_bytes = kTokenHeaderBytes;
    file.token_bytes = format.token_bytes;
  }
  const int64_t body = size - file.header_bytes;
  if (body % file.token_bytes != 0) {
    throw InputError(
        fmt::format("{} bytes are no whole number of {}-bit tokens", body, 8 * file.token_bytes),
        path, kAnew);
  }
  file.tokens = body / file.token_bytes;
  if (file.header_bytes > 0 && file.tokens != tokens) {
    throw InputError(
        fmt::format("the llm.c header says {} tokens, the file holds {}", tokens, file.tokens),
        path, kAnew);
  }
  if (file.tokens == 0) throw InputError("the token file is empty", path, kAnew);
  return file;
}

template <class T>
void TokenSource::check_ids_of(const File& file, int64_t vocabulary) {
  if (vocabulary > std::numeric_limits<T>::max()) return;
  const std::byte* data = file.map.bytes().data() + file.header_bytes;
  const int64_t at = find_at_least<T>(data, file.tokens, vocabulary);
  if (at < 0) return;
  const int64_t byte = at * file.token_bytes;
  throw InputError(
      fmt::format("id {} is beyond the vocabulary of {}", load<T>(data + byte), vocabulary),
      fmt::format("{}: token {} (byte {})", file.map.path(), at, file.header_bytes + byte),
      "model.vocab_size must be at least the tokenizer's; or these are other tokens, or no tokens");
}

void TokenSource::check_ids(const File& file, int64_t vocabulary) {
  switch (file.token_bytes) {
    case 1: return check_ids_of<uint8_t>(file, vocabulary);
    case 2: return check_ids_of<uint16_t>(file, vocabulary);
    default: return check_ids_of<uint32_t>(file, vocabulary);
  }
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
    switch (file->token_bytes) {
      case 1: widen<uint8_t>(data, part); break;
      case 2: widen<uint16_t>(data, part); break;
      default: widen<uint32_t>(data, part);
    }
    out = out.subspan(part.size());
    first += static_cast<int64_t>(part.size());
    ++file;
  }
}

uint64_t TokenSource::fingerprint() const {
  constexpr size_t kSamples = 64, kSampleBytes = 4096;
  uint64_t hash = tokenizer_fingerprint_;
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
