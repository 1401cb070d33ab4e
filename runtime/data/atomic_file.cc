#include "runtime/data/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "runtime/base/error.h"

namespace memwall {
namespace {

// A rename is durable once its folder is synced.
int sync_folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const std::string folder = parent.empty() ? std::string(".") : parent;
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return error == EINVAL ? 0 : error;  // EINVAL: this file system cannot sync folders
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), temporary_(path_ + ".tmp") {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0)
    throw Error(std::string("cannot create: ") + std::strerror(errno), temporary_,
                "the folder must exist and be writable");
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const std::string& action, int error) const {
  throw Error("cannot " + action + ": " + std::strerror(error), path_,
              error == ENOSPC || error == EDQUOT ? "free some space; no partial file is left"
                                                 : "look at the disk; no partial file is left");
}

void AtomicFile::reserve(int64_t bytes) {
  if (bytes == 0) return;
  int error = 0;
  do {
    error = ::posix_fallocate(fd_, 0, bytes);
  } while (error == EINTR);
  if (error == EOPNOTSUPP) return;  // the writes themselves will find a full disk
  if (error != 0) fail("reserve " + std::to_string(bytes) + " bytes", error);
}

void AtomicFile::write(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("write", written < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
}

void AtomicFile::seal() {
  if (fd_ < 0) return;
  if (::fsync(fd_) != 0) fail("sync", errno);
  if (::close(std::exchange(fd_, -1)) != 0) fail("close", errno);
}

void AtomicFile::commit() {
  seal();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename into place", errno);
  temporary_.clear();
  if (const int error = sync_folder_of(path_)) fail("sync the folder of", error);
}

void write_file_atomically(const std::string& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(0, std::as_bytes(std::span(contents.data(), contents.size())));
  file.commit();
}

}  // namespace memwall
