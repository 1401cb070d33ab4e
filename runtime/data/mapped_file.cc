#include "runtime/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/error.h"

namespace memwall {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& action) {
  const int error = errno;
  throw InputError("cannot " + action + ": " + std::strerror(error), path,
                   error == ENOENT
                       ? "look at the path; a relative one counts from the working folder"
                       : "the file must be readable");
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);  // read-only: nothing is lost where this fails
  }
};

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer.
  const Descriptor file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) refuse(path_, "open");
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) refuse(path_, "inspect");
  if (!S_ISREG(status.st_mode)) throw InputError("not a regular file", path_, "name a file");
  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0) return;  // mmap refuses empty ranges
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd, 0);
  if (start == MAP_FAILED) refuse(path_, "map");
  bytes_ = {static_cast<const std::byte*>(start), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace memwall
