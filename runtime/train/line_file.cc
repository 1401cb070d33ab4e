#include "runtime/train/line_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/data/mapped_file.h"

namespace memwall {
namespace {

// Bytes up to the end of the last whole line of a step in [1, last_step].
int64_t kept_bytes(std::string_view text, int64_t last_step) {
  constexpr std::string_view kStart = "{\"step\":";
  size_t kept = 0;
  while (kept < text.size()) {
    const size_t end = text.find('\n', kept);
    if (end == std::string_view::npos) break;
    std::string_view line = text.substr(kept, end - kept);
    if (!line.starts_with(kStart)) break;
    line.remove_prefix(kStart.size());
    int64_t step = 0;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), step);
    if (parsed.ec != std::errc() || step > last_step) break;
    kept = end + 1;
  }
  return static_cast<int64_t>(kept);
}

}  // namespace

LineFile::LineFile(std::string path, int64_t last_step) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("open", errno);
  try {
    const MappedFile map(path_);
    const auto bytes = map.bytes();
    size_ = kept_bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, last_step);
    if (::ftruncate(fd_, size_) != 0) fail("cut", errno);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

LineFile::~LineFile() {
  ::close(fd_);
}

void LineFile::append(const std::string& json) {
  const std::string line = json + '\n';
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int error = written < 0 ? errno : ENOSPC;
      if (::ftruncate(fd_, size_) != 0) fail("cut a torn line of", errno);
      fail("write", error);
    }
    rest.remove_prefix(static_cast<size_t>(written));
  }
  size_ += static_cast<int64_t>(line.size());
}

void LineFile::fail(const char* action, int error) const {
  throw Error(std::string("cannot ") + action + ": " + std::strerror(error), path_,
              error == ENOSPC || error == EDQUOT || error == EFBIG
                  ? "free some space, then train with --resume"
                  : "");
}

}  // namespace memwall
