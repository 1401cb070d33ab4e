// A whole file, mapped read-only: pages come in when touched and cost no anonymous memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace memwall {

// The file must not shrink while it is mapped; reading a page that is gone raises SIGBUS.
class MappedFile {
 public:
  MappedFile() = default;  // nothing
  // InputError where `path` is missing, unreadable or no regular file. It may be empty.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace memwall
