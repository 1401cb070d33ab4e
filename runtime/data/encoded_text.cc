#include "runtime/data/encoded_text.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/data/utf8.h"

namespace memwall {
namespace {

constexpr int64_t kNarrowVocabulary = int64_t{1} << 16;
constexpr size_t kBufferBytes = size_t{1} << 20;

std::string temporary_folder() {
  std::error_code error;
  const auto folder = std::filesystem::temp_directory_path(error);
  return error ? "/tmp" : folder.string();
}

// A file that has a name for a moment only.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& folder)
      : path_((folder.empty() ? temporary_folder() : folder) + "/.memwall-tokens-XXXXXX") {
    fd_ = ::mkostemp(path_.data(), O_CLOEXEC);
    if (fd_ < 0) fail("create", errno);
  }
  ~TemporaryFile() {
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  template <class T>
  void append(std::span<const int32_t> tokens) {
    for (const int32_t token : tokens) {
      const T id = static_cast<T>(token);
      const size_t at = buffer_.size();
      buffer_.resize(at + sizeof(T));
      std::memcpy(buffer_.data() + at, &id, sizeof(T));
    }
    if (buffer_.size() >= kBufferBytes) flush();
  }
  MappedFile map() {
    flush();
    return MappedFile(path_);
  }

 private:
  void flush() {
    for (size_t done = 0; done < buffer_.size();) {
      const ssize_t written = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail("write", written < 0 ? errno : ENOSPC);
      done += static_cast<size_t>(written);
    }
    buffer_.clear();
  }
  [[noreturn]] void fail(const char* action, int error) const {
    throw Error(
        fmt::format("cannot {} a temporary file of tokens: {}", action, std::strerror(error)),
        path_, "free some space, or let TMPDIR name a folder that has room");
  }

  std::string path_;
  int fd_ = -1;
  std::vector<char> buffer_;
};

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// Maps a text, checked.
MappedFile open_text(const std::string& path) {
  MappedFile file(path);
  if (file.bytes().empty()) throw InputError("the text is empty", path, "name a text");
  check_utf8(file.bytes(), path);
  return file;
}

}  // namespace

void check_utf8(std::span<const std::byte> text, const std::string& path) {
  const auto at = find_invalid_utf8(text);
  if (!at) return;
  throw InputError("not UTF-8", fmt::format("{}: byte {}", path, *at),
                   "convert it: iconv -f ITS-ENCODING -t UTF-8");
}

EncodedText encode_texts(std::span<const std::string> paths, const Tokenizer& tokenizer,
                         const EncodeOptions& options) {
  std::vector<MappedFile> texts;
  int64_t all = 0, done = 0, separators = 0;
  for (const std::string& path : paths) {
    texts.push_back(open_text(path));
    all += static_cast<int64_t>(texts.back().bytes().size());
  }
  const bool narrow = tokenizer.vocabulary() <= kNarrowVocabulary;
  TemporaryFile file(options.folder);
  const auto append = [&](std::span<const int32_t> tokens) {
    narrow ? file.append<uint16_t>(tokens) : file.append<uint32_t>(tokens);
  };
  for (const MappedFile& text : texts) {
    if (done > 0 && options.separates && tokenizer.separator()) {
      append(std::array{*tokenizer.separator()});
      ++separators;
    }
    tokenizer.encode(text_of(text), [&](std::span<const int32_t> tokens, size_t bytes) {
      append(tokens);
      if (options.progress) options.progress(done + static_cast<int64_t>(bytes), all);
    });
    done += static_cast<int64_t>(text.bytes().size());
  }
  return {file.map(), narrow ? 2 : 4, all, separators, tokenizer.fingerprint()};
}

}  // namespace memwall
